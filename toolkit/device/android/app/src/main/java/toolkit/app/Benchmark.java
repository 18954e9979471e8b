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
    private static final String[] STEPS = {"preprocess", "inference", "postprocess", "landmarks"};

    private Benchmark() {}

    /**
     * Opens the network anew, so that loading is timed too, and runs it over and over on one picture;
     * `places`: as for Model.
     */
    static JSONObject run(
            Model.Files files, Model.Entry entry, Model.Entry places, String format, int threads,
            boolean vulkan, Picture picture, float conf, float iou) throws IOException, JSONException {
        JSONObject rss = new JSONObject().put("start", memory("VmRSS"));
        try (Model model = new Model(files, entry, places, format, threads, vulkan)) {
            rss.put("loaded", memory("VmRSS"));
            int steps = model.points > 0 ? STEPS.length : STEPS.length - 1;
            double[] times = new double[STEPS.length];
            JSONObject first = new JSONObject();
            for (int i = 0; i < WARMUP; i++) {
                model.detect(picture, conf, iou, times);
                for (int step = 0; i == 0 && step < steps; step++) {
                    first.put(STEPS[step], rounded(times[step]));
                }
            }
            JSONArray starts = new JSONArray();
            JSONArray[] samples = new JSONArray[steps];
            for (int step = 0; step < steps; step++) {
                samples[step] = new JSONArray();
            }
            float[] found = {};
            long begin = System.nanoTime();
            for (int i = 0; i < LOOPS; i++) {
                starts.put(i == 0 ? 0 : rounded((System.nanoTime() - begin) / 1e6));
                found = model.detect(picture, conf, iou, times);
                for (int step = 0; step < steps; step++) {
                    samples[step].put(rounded(times[step]));
                }
            }
            JSONObject all = new JSONObject().put("start_ms", starts);
            for (int step = 0; step < steps; step++) {
                all.put(STEPS[step] + "_ms", samples[step]);
            }
            JSONObject machine = new JSONObject(Core.machine());
            return new JSONObject()
                    .put("schema", 1)
                    .put("kind", "bench")
                    .put("model", model.identity)
                    .put("landmarks", model.landmarksIdentity) // which null leaves out
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
                    .put("detections", detections(found, model));
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

    private static JSONArray detections(float[] found, Model model) throws JSONException {
        JSONArray rows = new JSONArray();
        for (int i = 0; i < found.length; i += model.rowLength()) {
            JSONArray box = new JSONArray();
            for (int side = 0; side < 4; side++) {
                box.put(rounded(found[i + side]));
            }
            JSONObject row = new JSONObject()
                    .put("class", model.classes[(int) found[i + 5]])
                    .put("score", Math.round(found[i + 4] * 1e6) / 1e6)
                    .put("box", box);
            if (model.points > 0 && !Float.isNaN(found[i + 6])) {
                row.put("landmarks", points(found, i + 6, model.points));
            }
            rows.put(row);
        }
        return rows;
    }

    private static JSONArray points(float[] found, int first, int count) throws JSONException {
        JSONArray points = new JSONArray();
        for (int i = first; i < first + 2 * count; i += 2) {
            points.put(new JSONArray().put(rounded(found[i])).put(rounded(found[i + 1])));
        }
        return points;
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
