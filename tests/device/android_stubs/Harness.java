package toolkit.app;

import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** The parts of the app that need no Android, in a desktop's JVM: jobs from a JSON file, answers to stdout. */
final class Harness {
    private final JSONObject job;

    private Harness(JSONObject job) {
        this.job = job;
    }

    public static void main(String[] arguments) throws IOException, JSONException {
        JSONArray jobs = new JSONArray(Files.readString(Paths.get(arguments[0])));
        JSONArray answers = new JSONArray();
        for (int i = 0; i < jobs.length(); i++) {
            try {
                answers.put(new Harness(jobs.getJSONObject(i)).answer());
            } catch (IllegalArgumentException error) {
                answers.put(new JSONObject().put("error", error.getMessage()));
            }
        }
        System.out.println(answers);
    }

    private JSONObject answer() throws IOException, JSONException {
        switch (job.getString("kind")) {
            case "list":
                return list();
            case "detect":
                return detect();
            case "bench":
                return Benchmark.run(
                        this::open, entry(), Model.landmarks(this::open), job.getString("format"),
                        job.getInt("threads"), false, picture(), (float) job.getDouble("conf"),
                        (float) job.getDouble("iou"));
            case "frame":
                return frame();
            case "turn":
                return turn();
            case "orientation":
                return new JSONObject().put("exif", Orientation.of(
                        job.getInt("sensor"), job.getInt("display"), job.getBoolean("front")));
            case "machine":
                return new JSONObject(Core.machine()).put("gpus", Core.gpus());
            default:
                throw new IllegalArgumentException("no such job");
        }
    }

    private JSONObject list() throws IOException, JSONException {
        JSONArray rows = new JSONArray();
        for (Model.Entry entry : Model.list(this::open)) {
            try (Model model = new Model(this::open, entry, null, entry.formats.get(0), 1, false)) {
                rows.put(new JSONObject()
                        .put("name", entry.name)
                        .put("formats", new JSONArray(entry.formats))
                        .put("classes", new JSONArray(model.classes))
                        .put("threshold", model.threshold));
            }
        }
        return new JSONObject().put("models", rows);
    }

    private JSONObject detect() throws IOException, JSONException {
        double[] times = new double[4];
        try (Model model = new Model(
                this::open, entry(), Model.landmarks(this::open), job.getString("format"), job.getInt("threads"),
                false)) {
            float[] found = model.detect(
                    picture(), (float) job.getDouble("conf"), (float) job.getDouble("iou"), times);
            JSONArray rows = new JSONArray();
            for (float value : found) {
                rows.put(Float.isNaN(value) ? JSONObject.NULL : (Object) (double) value); // JSON has no NaN
            }
            return new JSONObject()
                    .put("rows", rows)
                    .put("points", model.points)
                    .put("milliseconds", new JSONArray(times));
        }
    }

    private JSONObject frame() throws IOException, JSONException {
        Picture upright = new Picture();
        int orientation = job.getInt("orientation");
        upright.prepare("frame", job.getInt("width"), job.getInt("height"), orientation);
        Core.frame(
                direct("y"), direct("u"), direct("v"), job.getInt("width"), job.getInt("height"),
                job.getInt("rowStep"), job.getInt("chromaRowStep"), job.getInt("chromaPixelStep"), orientation,
                upright.rgba);
        return save(upright);
    }

    private JSONObject turn() throws IOException, JSONException {
        Picture upright = new Picture();
        int orientation = job.getInt("orientation");
        upright.prepare("picture", job.getInt("width"), job.getInt("height"), orientation);
        Core.turn(
                direct("rgba"), job.getInt("width"), job.getInt("height"), job.getInt("step"), orientation,
                upright.rgba);
        return save(upright);
    }

    private JSONObject save(Picture picture) throws IOException, JSONException {
        byte[] bytes = new byte[4 * picture.width * picture.height];
        picture.rgba.duplicate().get(bytes);
        Files.write(Paths.get(job.getString("output")), bytes);
        return new JSONObject().put("width", picture.width).put("height", picture.height);
    }

    private FileInputStream open(String path) throws IOException {
        return new FileInputStream(Path.of(job.optString("assets"), path).toFile());
    }

    private Model.Entry entry() throws IOException, JSONException {
        for (Model.Entry entry : Model.list(this::open)) {
            if (entry.name.equals(job.getString("model"))) {
                return entry;
            }
        }
        throw new IllegalArgumentException("no such model");
    }

    private Picture picture() throws IOException, JSONException {
        Picture picture = new Picture();
        picture.prepare("picture.rgba", job.getInt("width"), job.getInt("height"), 1);
        picture.rgba = direct("rgba");
        return picture;
    }

    private ByteBuffer direct(String key) throws IOException, JSONException {
        byte[] bytes = Files.readAllBytes(Paths.get(job.getString(key)));
        ByteBuffer buffer = ByteBuffer.allocateDirect(bytes.length);
        buffer.put(bytes).rewind();
        return buffer;
    }
}
