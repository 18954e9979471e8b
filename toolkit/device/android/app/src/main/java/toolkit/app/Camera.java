package toolkit.app;

import android.graphics.ImageFormat;
import android.hardware.camera2.CameraAccessException;
import android.hardware.camera2.CameraCaptureSession;
import android.hardware.camera2.CameraCharacteristics;
import android.hardware.camera2.CameraDevice;
import android.hardware.camera2.CameraManager;
import android.hardware.camera2.CaptureRequest;
import android.media.Image;
import android.media.ImageReader;
import android.os.Handler;
import android.util.Size;
import java.util.Collections;

/** Frames of a camera at about 640x480. All methods and callbacks run on the handler's thread. */
final class Camera {
    interface Listener {
        /** A frame, valid until this returns; `sensor` is its SENSOR_ORIENTATION in degrees. */
        void onFrame(Image frame, int sensor, boolean front);

        /** There is no such camera, or it was lost. */
        void onCameraFailed(boolean exists);
    }

    private static final int WIDTH = 640;
    private static final int HEIGHT = 480;

    private final CameraManager manager;
    private final Handler handler;
    private final Listener listener;
    private CameraDevice device;
    private ImageReader reader; // null while closed; callbacks that belong to an older one come too late
    private boolean askedForFront;

    Camera(CameraManager manager, Handler handler, Listener listener) {
        this.manager = manager;
        this.handler = handler;
        this.listener = listener;
    }

    /** Starts frames of the front or back camera, of another one where there is no such. */
    void open(boolean front) {
        if (reader != null && front == askedForFront) {
            return; // open, or on its way
        }
        close();
        askedForFront = front;
        try {
            String id = find(front);
            if (id == null) {
                listener.onCameraFailed(false);
                return;
            }
            CameraCharacteristics facts = manager.getCameraCharacteristics(id);
            Integer facing = facts.get(CameraCharacteristics.LENS_FACING);
            boolean mirrored = facing != null && facing == CameraCharacteristics.LENS_FACING_FRONT;
            Integer degrees = facts.get(CameraCharacteristics.SENSOR_ORIENTATION);
            int sensor = degrees == null ? 0 : degrees;
            Size size = nearest(facts);
            reader = ImageReader.newInstance(size.getWidth(), size.getHeight(), ImageFormat.YUV_420_888, 2);
            reader.setOnImageAvailableListener(source -> deliver(source, sensor, mirrored), handler);
            manager.openCamera(id, new Opened(reader), handler);
        } catch (CameraAccessException | SecurityException | IllegalArgumentException error) {
            fail(reader);
        }
    }

    void close() {
        if (device != null) {
            device.close();
            device = null;
        }
        if (reader != null) {
            reader.close();
            reader = null;
        }
    }

    private void deliver(ImageReader source, int sensor, boolean front) {
        if (source != reader) {
            return;
        }
        try (Image frame = source.acquireLatestImage()) {
            if (frame != null) {
                listener.onFrame(frame, sensor, front);
            }
        }
    }

    private void fail(ImageReader failed) {
        if (failed == reader) {
            close();
            listener.onCameraFailed(true);
        }
    }

    private String find(boolean front) throws CameraAccessException {
        int wanted = front ? CameraCharacteristics.LENS_FACING_FRONT : CameraCharacteristics.LENS_FACING_BACK;
        String other = null;
        for (String id : manager.getCameraIdList()) {
            CameraCharacteristics facts = manager.getCameraCharacteristics(id);
            if (facts.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP) == null) {
                continue; // gives no pictures, depth for example
            }
            Integer facing = facts.get(CameraCharacteristics.LENS_FACING);
            if (facing != null && facing == wanted) {
                return id;
            }
            other = id;
        }
        return other;
    }

    private static Size nearest(CameraCharacteristics facts) {
        Size best = null;
        for (Size size : facts.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP)
                .getOutputSizes(ImageFormat.YUV_420_888)) {
            if (best == null || distance(size) < distance(best)) {
                best = size;
            }
        }
        return best;
    }

    private static int distance(Size size) {
        return Math.abs(size.getWidth() - WIDTH) + Math.abs(size.getHeight() - HEIGHT);
    }

    private final class Opened extends CameraDevice.StateCallback {
        private final ImageReader target;

        Opened(ImageReader target) {
            this.target = target;
        }

        @Override
        public void onOpened(CameraDevice opened) {
            if (target != reader) {
                opened.close();
                return;
            }
            device = opened;
            try {
                device.createCaptureSession(
                        Collections.singletonList(target.getSurface()), new Started(target), handler);
            } catch (CameraAccessException | IllegalStateException error) {
                fail(target);
            }
        }

        @Override
        public void onDisconnected(CameraDevice lost) {
            lost.close();
            fail(target);
        }

        @Override
        public void onError(CameraDevice lost, int code) {
            onDisconnected(lost);
        }
    }

    private final class Started extends CameraCaptureSession.StateCallback {
        private final ImageReader target;

        Started(ImageReader target) {
            this.target = target;
        }

        @Override
        public void onConfigured(CameraCaptureSession session) {
            if (target != reader) {
                return;
            }
            try {
                CaptureRequest.Builder request = device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW);
                request.addTarget(target.getSurface());
                session.setRepeatingRequest(request.build(), null, handler);
            } catch (CameraAccessException | IllegalStateException error) {
                fail(target);
            }
        }

        @Override
        public void onConfigureFailed(CameraCaptureSession session) {
            fail(target);
        }
    }
}
