package toolkit.app;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** An exported network that is open. Everything about it is read from its spec.json. */
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

    final JSONObject spec;
    final String format;
    final int threads;
    final boolean vulkan;
    final float threshold;
    final String[] classes;
    final String[] files; // .param and .bin
    final double loadMilliseconds;
    private long handle;

    Model(Files files, Entry entry, String format, int threads, boolean vulkan)
            throws IOException, JSONException {
        ByteBuffer text = read(files, entry.folder + "/spec.json");
        spec = new JSONObject(StandardCharsets.UTF_8.decode(text.duplicate()).toString());
        this.format = format;
        this.threads = threads;
        this.vulkan = vulkan;
        threshold = (float) spec.getDouble("threshold");
        JSONArray names = spec.getJSONObject("io").getJSONArray("classes");
        classes = new String[names.length()];
        for (int i = 0; i < classes.length; i++) {
            classes[i] = names.getString(i);
        }
        String param = spec.getJSONObject("formats").getJSONObject(format).getString("file");
        this.files = new String[] {param, param.substring(0, param.lastIndexOf('.')) + ".bin"};
        ByteBuffer layers = read(files, entry.folder + "/" + this.files[0]);
        ByteBuffer weights = read(files, entry.folder + "/" + this.files[1]);
        long begin = System.nanoTime();
        handle = Core.open(text, format, layers, weights, threads, vulkan);
        loadMilliseconds = (System.nanoTime() - begin) / 1e6;
    }

    static List<Entry> list(Files files) throws IOException, JSONException {
        String text = StandardCharsets.UTF_8.decode(read(files, "models/index.json")).toString();
        JSONArray rows = new JSONObject(text).getJSONArray("models");
        List<Entry> entries = new ArrayList<>();
        for (int i = 0; i < rows.length(); i++) {
            entries.add(new Entry(rows.getJSONObject(i)));
        }
        return entries;
    }

    boolean isLike(String format, int threads, boolean vulkan) {
        return this.format.equals(format) && this.threads == threads && this.vulkan == vulkan;
    }

    /** As Core.detect. */
    float[] detect(Picture picture, float conf, float iou, double[] milliseconds) {
        return Core.detect(handle, picture.rgba, picture.width, picture.height, conf, iou, milliseconds);
    }

    @Override
    public void close() {
        Core.close(handle);
        handle = 0;
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
