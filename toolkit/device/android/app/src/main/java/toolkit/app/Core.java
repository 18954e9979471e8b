package toolkit.app;

import java.nio.ByteBuffer;

/**
 * What the app asks of C++ (jni.cpp). All buffers are direct. Bad input is an IllegalArgumentException with
 * one sentence.
 */
final class Core {
    static {
        System.loadLibrary("detector");
    }

    private Core() {}

    /**
     * Opens a network.
     *
     * @param spec the text of spec.json, UTF-8
     * @param format "ncnn", "ncnn-fp16" or "ncnn-int8"
     * @param param the text of its .param
     * @param weights its .bin
     * @return a handle, to be closed
     */
    static native long open(
            ByteBuffer spec,
            String format,
            ByteBuffer param,
            ByteBuffer weights,
            int threads,
            boolean vulkan);

    static native void close(long handle);

    /** The same for a landmark network. */
    static native long openLandmarks(
            ByteBuffer spec,
            String format,
            ByteBuffer param,
            ByteBuffer weights,
            int threads,
            boolean vulkan);

    static native void closeLandmarks(long handle);

    /**
     * Finds objects, and places points in faces.
     *
     * @param landmarks the handle of a landmark network, 0 for none
     * @param face index of the class whose boxes it takes
     * @param rgba the picture, 4 x width bytes a row
     * @param conf threshold on the score, 0..1
     * @param iou suppression above this overlap, within a class, 0..1
     * @param milliseconds four places, filled with what preparing, network, boxes and points took
     * @return a row for each detection, by falling score: x1, y1, x2, y2 in pixels, score, index of the
     *     class; with a landmark network also x, y of every point, NaN where it is no face
     */
    static native float[] detect(
            long handle,
            long landmarks,
            int face,
            ByteBuffer rgba,
            int width,
            int height,
            float conf,
            float iou,
            double[] milliseconds);

    /**
     * A camera's frame as upright RGBA.
     *
     * @param width of the frame, px; u and v have half the width and height
     * @param rowStep bytes from a row of y to the next
     * @param chromaRowStep the same for u and v
     * @param chromaPixelStep bytes from a pixel of u or v to the next
     * @param orientation EXIF's, 1 to 8
     * @param rgba 4 x width x height bytes to fill; from orientation 5 on the sides have changed places
     */
    static native void frame(
            ByteBuffer y,
            ByteBuffer u,
            ByteBuffer v,
            int width,
            int height,
            int rowStep,
            int chromaRowStep,
            int chromaPixelStep,
            int orientation,
            ByteBuffer rgba);

    /** A picture with `step` bytes a row as an upright one without gaps; the rest as for frame. */
    static native void turn(
            ByteBuffer rgba, int width, int height, int step, int orientation, ByteBuffer upright);

    /** A JSON object with "runtime" and "cpu", as readings hold them. */
    static native String machine();

    /** GPUs that ncnn can use; 0 where the app was built without Vulkan. */
    static native int gpus();
}
