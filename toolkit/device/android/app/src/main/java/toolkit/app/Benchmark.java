package toolkit.app;

import java.io.BufferedReader;
import java.io.FileReader;
import java.io.IOException;
import java.util.Arrays;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** Times a network inside the app and writes what the timing program of the toolkit writes: one reading. */
final class Benchmark {
    static final int WARMUP = 8;
    static final int LOOPS = 50;
    private static final String[] STEPS = {"preprocess", "inference", "postprocess"};

    private Benchmark() {}

    /** Opens the network anew, so that loading is timed too, and runs it over and over on one picture. */
    static JSONObject run(
            Model.Files files, Model.Entry entry, String format, int threads, boolean vulkan, Picture picture,
            float conf, float iou) throws IOException, JSONException {
        JSONObject rss = new JSONObject().put("start", memory("VmRSS"));
        try (Model model = new Model(files, entry, format, threads, vulkan)) {
            rss.put("loaded", memory("VmRSS"));
            double[] times = new double[3];
            JSONObject first = new JSONObject();
            for (int i = 0; i < WARMUP; i++) {
                model.detect(picture, conf, iou, times);
                for (int step = 0; i == 0 && step < 3; step++) {
                    first.put(STEPS[step], rounded(times[step]));
                }
            }
            JSONArray starts = new JSONArray();
            JSONArray[] samples = {new JSONArray(), new JSONArray(), new JSONArray()};
            float[] found = {};
            long begin = System.nanoTime();
            for (int i = 0; i < LOOPS; i++) {
                starts.put(i == 0 ? 0 : rounded((System.nanoTime() - begin) / 1e6));
                found = model.detect(picture, conf, iou, times);
                for (int step = 0; step < 3; step++) {
                    samples[step].put(rounded(times[step]));
                }
            }
            JSONObject all = new JSONObject().put("start_ms", starts);
            for (int step = 0; step < 3; step++) {
                all.put(STEPS[step] + "_ms", samples[step]);
            }
            JSONObject machine = new JSONObject(Core.machine());
            return new JSONObject()
                    .put("schema", 1)
                    .put("kind", "bench")
                    .put("model", identity(model))
                    .put("input", new JSONObject()
                            .put("picture", picture.name)
                            .put("width", picture.width)
                            .put("height", picture.height))
                    .put("settings", new JSONObject()
                            .put("threads", threads)
                            .put("powersave", 0)
                            .put("precision", precision(format))
                            .put("vulkan", vulkan)
                            .put("warmup", WARMUP)
                            .put("conf", rounded(conf))
                            .put("iou", rounded(iou))
                            .put("run_as", "app"))
                    .put("runtime", machine.getJSONObject("runtime"))
                    .put("cpu", machine.getJSONObject("cpu"))
                    .put("load_ms", rounded(model.loadMilliseconds))
                    .put("first_ms", first)
                    .put("samples", all)
                    .put("rss_kb", rss.put("peak", memory("VmHWM")))
                    .put("detections", detections(found, model.classes));
        }
    }

    /** The median of a step's samples, ms. */
    static double median(JSONObject reading, String step) throws JSONException {
        JSONArray samples = reading.getJSONObject("samples").getJSONArray(step);
        double[] sorted = new double[samples.length()];
        for (int i = 0; i < sorted.length; i++) {
            sorted[i] = samples.getDouble(i);
        }
        Arrays.sort(sorted);
        return (sorted[(sorted.length - 1) / 2] + sorted[sorted.length / 2]) / 2;
    }

    /** "ncnn" -> "fp32", "ncnn-fp16" -> "fp16", "ncnn-int8" -> "int8". */
    static String precision(String format) {
        return format.equals("ncnn") ? "fp32" : format.substring(format.indexOf('-') + 1);
    }

    private static JSONObject identity(Model model) throws JSONException {
        JSONObject format = model.spec.getJSONObject("formats").getJSONObject(model.format);
        JSONObject files = format.getJSONObject("files");
        JSONObject hashes = new JSONObject();
        for (String name : model.files) {
            hashes.put(name, files.getJSONObject(name).getString("sha256"));
        }
        return new JSONObject()
                .put("name", model.spec.getString("name"))
                .put("format", model.format)
                .put("sha256", hashes);
    }

    private static JSONArray detections(float[] found, String[] classes) throws JSONException {
        JSONArray rows = new JSONArray();
        for (int i = 0; i < found.length; i += 6) {
            JSONArray box = new JSONArray();
            for (int side = 0; side < 4; side++) {
                box.put(rounded(found[i + side]));
            }
            rows.put(new JSONObject()
                    .put("class", classes[(int) found[i + 5]])
                    .put("score", Math.round(found[i + 4] * 1e6) / 1e6)
                    .put("box", box));
        }
        return rows;
    }

    private static double rounded(double value) {
        return Math.round(value * 1e4) / 1e4;
    }

    /** A line of the kernel's account of this process, kB. */
    private static long memory(String name) throws IOException {
        try (BufferedReader lines = new BufferedReader(new FileReader("/proc/self/status"))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                if (line.startsWith(name + ":")) {
                    return Long.parseLong(line.replaceAll("[^0-9]", ""));
                }
            }
        }
        throw new IOException("the kernel does not say " + name);
    }
}
