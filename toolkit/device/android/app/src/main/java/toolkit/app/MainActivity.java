package toolkit.app;

import android.Manifest;
import android.app.Activity;
import android.app.AlertDialog;
import android.content.ActivityNotFoundException;
import android.content.Intent;
import android.content.pm.PackageManager;
import android.content.res.Configuration;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.hardware.camera2.CameraManager;
import android.media.ExifInterface;
import android.media.Image;
import android.net.Uri;
import android.os.Build;
import android.os.Bundle;
import android.os.Handler;
import android.os.HandlerThread;
import android.provider.Settings;
import android.view.SurfaceHolder;
import android.view.View;
import android.widget.AdapterView;
import android.widget.ArrayAdapter;
import android.widget.Button;
import android.widget.CheckBox;
import android.widget.LinearLayout;
import android.widget.SeekBar;
import android.widget.Spinner;
import android.widget.TextView;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.text.SimpleDateFormat;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.Locale;
import java.util.TimeZone;
import java.util.function.Consumer;
import org.json.JSONException;
import org.json.JSONObject;

/**
 * The one screen. Networks, frames and measurements live on one worker thread; what the sliders say is kept
 * in volatile fields that the next frame reads.
 */
public final class MainActivity extends Activity implements Camera.Listener {
    private static final int ASK_CAMERA = 1;
    private static final int ASK_PICTURE = 2;
    private static final int[] THREADS = {1, 2, 4};
    private static final float USUAL_OVERLAP = 0.45f;
    private static final int LONGEST_SIDE = 2048;

    private PictureView view;
    private View refused;
    private TextView status;
    private Spinner models;
    private Spinner formats;
    private Spinner threads;
    private CheckBox vulkan;
    private SeekBar confidence;
    private SeekBar overlap;
    private Button cameraButton;
    private List<Model.Entry> entries;
    private Model.Entry landmarks; // null in an app without
    private boolean live = true; // the camera is wanted, no still picture
    private boolean front;

    private volatile float conf;
    private volatile float iou = USUAL_OVERLAP;

    private HandlerThread thread;
    private Handler worker;
    // used on the worker only
    private Camera camera;
    private Model model;
    private Model.Entry opened;
    private final Picture picture = new Picture();
    private final double[] times = new double[4];
    private final Runnable redraw = this::detect;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.main);
        view = findViewById(R.id.view);
        refused = findViewById(R.id.refused);
        status = findViewById(R.id.status);
        models = findViewById(R.id.model);
        formats = findViewById(R.id.format);
        threads = findViewById(R.id.threads);
        vulkan = findViewById(R.id.vulkan);
        confidence = findViewById(R.id.conf);
        overlap = findViewById(R.id.iou);
        cameraButton = findViewById(R.id.camera);
        arrange(getResources().getConfiguration());

        thread = new HandlerThread("detector");
        thread.start();
        worker = new Handler(thread.getLooper());
        camera = new Camera(getSystemService(CameraManager.class), worker, this);
        try {
            entries = Model.list(getAssets()::open);
            landmarks = Model.landmarks(getAssets()::open);
        } catch (IOException | JSONException error) {
            throw new IllegalStateException("this app was packaged without models", error);
        }

        fill(models, entries);
        List<String> counts = new ArrayList<>();
        for (int count : THREADS) {
            counts.add(getResources().getQuantityString(R.plurals.threads, count, count));
        }
        fill(threads, counts);
        vulkan.setVisibility(Core.gpus() > 0 ? View.VISIBLE : View.GONE);
        onChosen(models, this::showFormats);
        onChosen(formats, this::openModel);
        onChosen(threads, this::openModel);
        vulkan.setOnCheckedChangeListener((button, on) -> openModel());

        confidence.setOnSeekBarChangeListener(new Slider(value -> conf = value));
        overlap.setOnSeekBarChangeListener(new Slider(value -> iou = value));
        overlap.setProgress(Math.round(1000 * iou));
        showSliders();

        cameraButton.setOnClickListener(button -> {
            front = live && cameraAllowed() ? !front : front;
            live = true;
            startCamera();
        });
        findViewById(R.id.picture).setOnClickListener(button -> choosePicture());
        findViewById(R.id.measure).setOnClickListener(button -> measure());
        findViewById(R.id.allow).setOnClickListener(button -> askAgain());
        view.getHolder().addCallback(new SurfaceHolder.Callback() {
            @Override
            public void surfaceCreated(SurfaceHolder holder) {}

            @Override
            public void surfaceChanged(SurfaceHolder holder, int format, int width, int height) {
                again();
            }

            @Override
            public void surfaceDestroyed(SurfaceHolder holder) {}
        });
        if (!cameraAllowed()) {
            requestPermissions(new String[] {Manifest.permission.CAMERA}, ASK_CAMERA);
        }
    }

    @Override
    protected void onResume() {
        super.onResume();
        startCamera();
    }

    @Override
    protected void onPause() {
        worker.post(camera::close);
        super.onPause();
    }

    @Override
    protected void onDestroy() {
        worker.post(() -> {
            camera.close();
            closeModel();
        });
        thread.quitSafely();
        super.onDestroy();
    }

    @Override
    public void onConfigurationChanged(Configuration configuration) {
        super.onConfigurationChanged(configuration);
        arrange(configuration);
    }

    /** Controls below the picture, or beside it where the screen is wide. */
    private void arrange(Configuration configuration) {
        boolean wide = configuration.orientation == Configuration.ORIENTATION_LANDSCAPE;
        int all = LinearLayout.LayoutParams.MATCH_PARENT;
        int own = LinearLayout.LayoutParams.WRAP_CONTENT;
        int column = Math.round(320 * getResources().getDisplayMetrics().density);
        LinearLayout root = findViewById(R.id.root);
        root.setOrientation(wide ? LinearLayout.HORIZONTAL : LinearLayout.VERTICAL);
        View scene = findViewById(R.id.scene);
        View controls = findViewById(R.id.controls);
        scene.setLayoutParams(new LinearLayout.LayoutParams(wide ? 0 : all, wide ? all : 0, 1));
        controls.setLayoutParams(new LinearLayout.LayoutParams(wide ? column : all, wide ? all : own));
    }

    // --- camera and pictures ---------------------------------------------------------------------

    private boolean cameraAllowed() {
        return checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED;
    }

    private void startCamera() {
        boolean allowed = cameraAllowed();
        refused.setVisibility(live && !allowed ? View.VISIBLE : View.GONE);
        cameraButton.setText(live && allowed ? R.string.turn_camera : R.string.camera);
        if (live && allowed) {
            boolean wanted = front;
            worker.post(() -> camera.open(wanted));
        }
    }

    @Override
    public void onRequestPermissionsResult(int request, String[] permissions, int[] results) {
        startCamera();
    }

    /** Asks, or where Android asks no more, opens the page on which the reader can allow it. */
    private void askAgain() {
        if (shouldShowRequestPermissionRationale(Manifest.permission.CAMERA)) {
            requestPermissions(new String[] {Manifest.permission.CAMERA}, ASK_CAMERA);
        } else {
            Uri app = Uri.fromParts("package", getPackageName(), null);
            startActivity(new Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, app));
        }
    }

    @Override
    public void onFrame(Image frame, int sensor, boolean mirrored) {
        int display = 90 * getWindowManager().getDefaultDisplay().getRotation();
        int orientation = Orientation.of(sensor, display, mirrored);
        Image.Plane[] planes = frame.getPlanes();
        picture.prepare("camera", frame.getWidth(), frame.getHeight(), orientation);
        Core.frame(
                planes[0].getBuffer(),
                planes[1].getBuffer(),
                planes[2].getBuffer(),
                frame.getWidth(),
                frame.getHeight(),
                planes[0].getRowStride(),
                planes[1].getRowStride(),
                planes[1].getPixelStride(),
                orientation,
                picture.rgba);
        detect();
    }

    @Override
    public void onCameraFailed(boolean exists) {
        say(getString(exists ? R.string.camera_lost : R.string.no_camera));
    }

    private void choosePicture() {
        try {
            Intent choice = new Intent(Intent.ACTION_GET_CONTENT).setType("image/*");
            startActivityForResult(choice.addCategory(Intent.CATEGORY_OPENABLE), ASK_PICTURE);
        } catch (ActivityNotFoundException error) {
            say(error.getMessage());
        }
    }

    @Override
    protected void onActivityResult(int request, int result, Intent data) {
        if (request == ASK_PICTURE && result == RESULT_OK && data != null && data.getData() != null) {
            live = false;
            Uri chosen = data.getData();
            worker.post(() -> {
                camera.close();
                if (load(chosen)) {
                    detect();
                } else {
                    say(getString(R.string.no_picture));
                }
            });
        }
    }

    private boolean load(Uri chosen) {
        byte[] bytes;
        int orientation;
        try (InputStream in = getContentResolver().openInputStream(chosen)) {
            if (in == null) {
                return false;
            }
            bytes = Model.drain(in);
        } catch (IOException | SecurityException error) {
            return false;
        }
        try {
            orientation = new ExifInterface(new ByteArrayInputStream(bytes))
                    .getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL);
        } catch (IOException error) { // a type without EXIF
            orientation = ExifInterface.ORIENTATION_NORMAL;
        }
        if (orientation == ExifInterface.ORIENTATION_UNDEFINED) {
            orientation = ExifInterface.ORIENTATION_NORMAL;
        }
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inJustDecodeBounds = true;
        BitmapFactory.decodeByteArray(bytes, 0, bytes.length, options);
        options.inJustDecodeBounds = false;
        options.inSampleSize = 1;
        while (Math.max(options.outWidth, options.outHeight) / options.inSampleSize > LONGEST_SIDE) {
            options.inSampleSize *= 2;
        }
        Bitmap bitmap = BitmapFactory.decodeByteArray(bytes, 0, bytes.length, options);
        if (bitmap == null) {
            return false;
        }
        if (bitmap.getConfig() != Bitmap.Config.ARGB_8888) {
            bitmap = bitmap.copy(Bitmap.Config.ARGB_8888, false);
        }
        ByteBuffer pixels = ByteBuffer.allocateDirect(bitmap.getByteCount());
        bitmap.copyPixelsToBuffer(pixels);
        int width = bitmap.getWidth();
        int height = bitmap.getHeight();
        picture.prepare(String.valueOf(chosen.getLastPathSegment()), width, height, orientation);
        Core.turn(pixels, width, height, bitmap.getRowBytes(), orientation, picture.rgba);
        return true;
    }

    // --- the network -----------------------------------------------------------------------------

    private Model.Entry chosen() {
        return entries.get(models.getSelectedItemPosition());
    }

    private String chosenFormat() {
        int position = Math.min(formats.getSelectedItemPosition(), chosen().formats.size() - 1);
        return chosen().formats.get(Math.max(position, 0));
    }

    private void showFormats() {
        List<String> precisions = new ArrayList<>();
        for (String format : chosen().formats) {
            precisions.add(Benchmark.precision(format));
        }
        fill(formats, precisions); // which chooses the first, and so opens it
    }

    private void openModel() {
        Model.Entry entry = chosen();
        String format = chosenFormat();
        int count = THREADS[threads.getSelectedItemPosition()];
        boolean gpu = vulkan.isChecked();
        worker.post(() -> {
            if (model != null && entry == opened && model.isLike(format, count, gpu)) {
                return;
            }
            boolean another = entry != opened;
            closeModel();
            try {
                model = new Model(getAssets()::open, entry, landmarks, format, count, gpu);
                opened = entry;
            } catch (IOException | JSONException | IllegalArgumentException error) {
                say(error.getMessage());
                return;
            }
            if (another) { // its own operating point
                conf = model.threshold;
                runOnUiThread(() -> {
                    confidence.setProgress(Math.round(1000 * conf));
                    showSliders();
                });
            }
            detect();
        });
    }

    private void closeModel() {
        if (model != null) {
            model.close();
            model = null;
        }
    }

    /** Detects in the picture at hand and shows it; on the worker. */
    private void detect() {
        if (model == null || picture.isEmpty()) {
            return;
        }
        float[] found;
        try {
            found = model.detect(picture, conf, iou, times);
        } catch (IllegalArgumentException error) { // a network that does not fit its spec.json
            say(error.getMessage());
            return;
        }
        view.show(picture, found, model);
        double sum = times[0] + times[1] + times[2] + times[3];
        say(getString(
                model.points > 0 ? R.string.status_landmarks : R.string.status,
                found.length / model.rowLength(), sum, times[0], times[1], times[2], times[3]));
    }

    /** The same for a still picture after something has changed; a camera's next frame comes by itself. */
    private void again() {
        worker.removeCallbacks(redraw);
        worker.post(redraw);
    }

    private final class Slider implements SeekBar.OnSeekBarChangeListener {
        private final Consumer<Float> set;

        Slider(Consumer<Float> set) {
            this.set = set;
        }

        @Override
        public void onProgressChanged(SeekBar bar, int progress, boolean byHand) {
            if (byHand) { // else a rounded operating point would replace the exact one
                set.accept(progress / 1000f);
                showSliders();
                again();
            }
        }

        @Override
        public void onStartTrackingTouch(SeekBar bar) {}

        @Override
        public void onStopTrackingTouch(SeekBar bar) {}
    }

    private void showSliders() {
        this.<TextView>findViewById(R.id.conf_label).setText(getString(R.string.confidence, conf));
        this.<TextView>findViewById(R.id.iou_label).setText(getString(R.string.overlap, iou));
    }

    // --- measuring -------------------------------------------------------------------------------

    private void measure() {
        Model.Entry entry = chosen();
        String format = chosenFormat();
        int count = THREADS[threads.getSelectedItemPosition()];
        boolean gpu = vulkan.isChecked();
        worker.post(() -> {
            if (picture.isEmpty()) {
                say(getString(R.string.nothing_to_measure));
                return;
            }
            camera.close(); // it would take its share of the processor
            closeModel();
            say(getString(R.string.measuring, entry.name));
            try {
                JSONObject reading = Benchmark.run(
                        getAssets()::open, entry, landmarks, format, count, gpu, picture, conf, iou);
                reading.put("device", device()).put("date", now("yyyy-MM-dd'T'HH:mm:ss'Z'"));
                File file = keep(reading, entry.name + "-" + format + "-" + now("yyyyMMdd-HHmmss") + ".json");
                double median = Benchmark.median(reading, "inference_ms");
                runOnUiThread(() -> showReading(reading, file, median));
            } catch (IOException | JSONException | IllegalArgumentException error) {
                say(error.getMessage());
            }
            runOnUiThread(() -> {
                openModel();
                startCamera();
            });
        });
    }

    private static JSONObject device() throws JSONException {
        return new JSONObject()
                .put("manufacturer", Build.MANUFACTURER)
                .put("model", Build.MODEL)
                .put("hardware", Build.HARDWARE)
                .put("android", Build.VERSION.RELEASE)
                .put("sdk", Build.VERSION.SDK_INT);
    }

    private static String now(String pattern) {
        SimpleDateFormat format = new SimpleDateFormat(pattern, Locale.ROOT);
        format.setTimeZone(TimeZone.getTimeZone("UTC"));
        return format.format(new Date());
    }

    private File keep(JSONObject reading, String name) throws IOException, JSONException {
        File outside = getExternalFilesDir("readings");
        File folder = outside == null ? getFilesDir() : outside;
        File file = new File(folder, name.replaceAll("[^\\w.-]", "-"));
        try (OutputStream out = new FileOutputStream(file)) {
            out.write(reading.toString(1).getBytes(StandardCharsets.UTF_8));
        }
        return file;
    }

    private void showReading(JSONObject reading, File file, double median) {
        if (isFinishing()) {
            return;
        }
        JSONObject identity = reading.optJSONObject("model");
        Intent send = new Intent(Intent.ACTION_SEND)
                .setType("text/plain")
                .putExtra(Intent.EXTRA_SUBJECT, file.getName())
                .putExtra(Intent.EXTRA_TEXT, reading.toString());
        new AlertDialog.Builder(this)
                .setMessage(getString(
                        R.string.measured,
                        identity.optString("name"),
                        Benchmark.precision(identity.optString("format")),
                        Benchmark.LOOPS,
                        median,
                        file))
                .setPositiveButton(
                        R.string.share, (dialog, which) -> startActivity(Intent.createChooser(send, null)))
                .setNegativeButton(android.R.string.ok, null)
                .show();
    }

    // --- small things ----------------------------------------------------------------------------

    private void say(String text) {
        runOnUiThread(() -> status.setText(text));
    }

    private <T> void fill(Spinner spinner, List<T> rows) {
        ArrayAdapter<T> adapter = new ArrayAdapter<>(this, android.R.layout.simple_spinner_item, rows);
        adapter.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item);
        spinner.setAdapter(adapter);
    }

    private static void onChosen(Spinner spinner, Runnable action) {
        spinner.setOnItemSelectedListener(new AdapterView.OnItemSelectedListener() {
            @Override
            public void onItemSelected(AdapterView<?> parent, View row, int position, long id) {
                action.run();
            }

            @Override
            public void onNothingSelected(AdapterView<?> parent) {}
        });
    }
}
