package toolkit.app;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/**
 * An exported detector that is open, with a landmark network where it finds faces. Everything about them is
 * read from their spec.json.
 */
final class Model implements AutoCloseable {
    /** Where files come from: the app's assets. */
    interface Files {
        InputStream open(String path) throws IOException;
    }

    /** A network that can be opened: its folder and its formats, as models/index.json lists them. */
    static final class Entry {
        final String folder;
        final String name;
        final List<String> formats = new ArrayList<>();

        Entry(JSONObject row) throws JSONException {
            folder = "models/" + row.getString("folder");
            name = row.getString("name");
            JSONArray listed = row.getJSONArray("formats");
            for (int i = 0; i < listed.length(); i++) {
                formats.add(listed.getString(i));
            }
        }

        @Override
        public String toString() {
            return name;
        }
    }

    /** What a folder holds for one format, as Core opens it. */
    private static final class Exported {
        final JSONObject spec;
        final String format;
        final String[] names; // .param and .bin
        final ByteBuffer text;
        final ByteBuffer param;
        final ByteBuffer weights;

        Exported(Files files, Entry entry, String format) throws IOException, JSONException {
            this.format = format;
            text = read(files, entry.folder + "/spec.json");
            spec = new JSONObject(StandardCharsets.UTF_8.decode(text.duplicate()).toString());
            String name = spec.getJSONObject("formats").getJSONObject(format).getString("file");
            names = new String[] {name, name.substring(0, name.lastIndexOf('.')) + ".bin"};
            param = read(files, entry.folder + "/" + names[0]);
            weights = read(files, entry.folder + "/" + names[1]);
        }

        /** As a reading names it. */
        JSONObject identity() throws JSONException {
            JSONObject files = spec.getJSONObject("formats").getJSONObject(format).getJSONObject("files");
            JSONObject hashes = new JSONObject();
            for (String name : names) {
                hashes.put(name, files.getJSONObject(name).getString("sha256"));
            }
            return new JSONObject()
                    .put("name", spec.getString("name"))
                    .put("format", format)
                    .put("sha256", hashes);
        }
    }

    final String format;
    final int threads;
    final boolean vulkan;
    final float threshold;
    final String[] classes;
    final int points; // in each face; 0 without a landmark network
    final JSONObject identity;
    final JSONObject landmarksIdentity; // null without a landmark network
    final double loadMilliseconds;
    private final int face; // the class that the landmark network takes
    private long handle;
    private long landmarks;

    /**
     * Opens a detector, and the landmark network `places`, if any, where a class is for it; that one takes
     * the same format if it has it, else its first.
     */
    Model(Files files, Entry entry, Entry places, String format, int threads, boolean vulkan)
            throws IOException, JSONException {
        this.format = format;
        this.threads = threads;
        this.vulkan = vulkan;
        Exported detector = new Exported(files, entry, format);
        identity = detector.identity();
        threshold = (float) detector.spec.getDouble("threshold");
        JSONArray names = detector.spec.getJSONObject("io").getJSONArray("classes");
        classes = new String[names.length()];
        for (int i = 0; i < classes.length; i++) {
            classes[i] = names.getString(i);
        }
        face = classes.length == 1 ? 0 : Arrays.asList(classes).indexOf("face");
        Exported placing = null;
        if (places != null && face >= 0) {
            boolean same = places.formats.contains(format);
            placing = new Exported(files, places, same ? format : places.formats.get(0));
        }
        landmarksIdentity = placing == null ? null : placing.identity();
        points = placing == null ? 0 : placing.spec.getJSONObject("io").getInt("points");
        long begin = System.nanoTime();
        handle = Core.open(detector.text, format, detector.param, detector.weights, threads, vulkan);
        if (placing != null) {
            try {
                landmarks = Core.openLandmarks(
                        placing.text, placing.format, placing.param, placing.weights, threads, vulkan);
            } catch (IllegalArgumentException error) {
                close();
                throw error;
            }
        }
        loadMilliseconds = (System.nanoTime() - begin) / 1e6;
    }

    /** The detectors that the app has. */
    static List<Entry> list(Files files) throws IOException, JSONException {
        JSONArray rows = index(files).getJSONArray("models");
        List<Entry> entries = new ArrayList<>();
        for (int i = 0; i < rows.length(); i++) {
            entries.add(new Entry(rows.getJSONObject(i)));
        }
        return entries;
    }

    /** The landmark network that the app has, or null. */
    static Entry landmarks(Files files) throws IOException, JSONException {
        JSONObject row = index(files).optJSONObject("landmarks");
        return row == null ? null : new Entry(row);
    }

    private static JSONObject index(Files files) throws IOException, JSONException {
        return new JSONObject(StandardCharsets.UTF_8.decode(read(files, "models/index.json")).toString());
    }

    /** Numbers of a detection in what `detect` gives. */
    int rowLength() {
        return 6 + 2 * points;
    }

    boolean isLike(String format, int threads, boolean vulkan) {
        return this.format.equals(format) && this.threads == threads && this.vulkan == vulkan;
    }

    /** As Core.detect. */
    float[] detect(Picture picture, float conf, float iou, double[] milliseconds) {
        return Core.detect(
                handle, landmarks, face, picture.rgba, picture.width, picture.height, conf, iou,
                milliseconds);
    }

    @Override
    public void close() {
        Core.close(handle);
        Core.closeLandmarks(landmarks);
        handle = 0;
        landmarks = 0;
    }

    /** All bytes up to the end. */
    static byte[] drain(InputStream in) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        byte[] block = new byte[1 << 16];
        for (int count = in.read(block); count >= 0; count = in.read(block)) {
            bytes.write(block, 0, count);
        }
        return bytes.toByteArray();
    }

    private static ByteBuffer read(Files files, String path) throws IOException {
        try (InputStream in = files.open(path)) {
            byte[] bytes = drain(in);
            ByteBuffer direct = ByteBuffer.allocateDirect(bytes.length);
            direct.duplicate().put(bytes); // whose position moves, not that of the other
            return direct;
        }
    }
}
