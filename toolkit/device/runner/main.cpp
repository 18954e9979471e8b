// Times an exported network, or finds objects with it, and prints one JSON object on stdout. With a landmark
// network the same of the cascade: points in each object, which are taken for faces. `count` steps through the
// detector's layers for an emulator that counts instructions (emulator/counter.c).
//   runner bench|detect|count FOLDER [options]      (the options: see `usage`)
#include <platform.h>
#include <simpleocv.h>
#if NCNN_VULKAN
#include <gpu.h>
#endif
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <sstream>

#include "landmarks.hpp"
#include "machine.hpp"

#ifndef TOOLKIT_THREADS
#define TOOLKIT_THREADS "none"
#endif

namespace {

const char* usage =
    "expected: runner bench|detect|count FOLDER --picture FILE | --raw FILE --size WxH [--landmarks FOLDER] [--format "
    "ncnn|ncnn-fp16|ncnn-int8] [--conf 0..1] [--threads N] [--powersave 0|1|2] [--vulkan 0|1], and for bench "
    "[--warmup N] [--loops N | --seconds S]";

constexpr int most_samples = 500000;  // of a reading, as readings.py takes them

struct Settings {
    std::string kind, folder, landmarks, format = "ncnn", picture, raw;
    int width = 0, height = 0;  // of `raw`
    double conf = -1;           // below 0: the threshold in spec.json
    int threads = 1, powersave = 0, vulkan = 0, warmup = 8, loops = 50;
    double seconds = 0;
};

// An RGB or BGR picture without gaps between the rows.
struct Picture {
    std::string bytes;
    toolkit::Pixels order = toolkit::Pixels::rgb;
    int width = 0, height = 0;
};

[[noreturn]] void fail(const std::string& sentence) { throw std::runtime_error(sentence); }

double number(const std::string& word, const std::string& text, double least, double most) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (end == text.c_str() || *end || !(value >= least && value <= most)) {
        std::ostringstream range;
        range << least << " to " << most;
        fail(word + " takes a number from " + range.str() + ", not " + text);
    }
    return value;
}

int whole(const std::string& word, const std::string& text, int least, int most) {
    const double value = number(word, text, least, most);
    if (value != static_cast<int>(value)) fail(word + " takes a whole number, not " + text);
    return static_cast<int>(value);
}

Settings parse(int count, char** words) {
    Settings s;
    const auto size = [&](const std::string& word, const std::string& text) {
        const std::size_t cross = text.find('x');
        if (cross == std::string::npos) fail(word + " takes WIDTHxHEIGHT, not " + text);
        s.width = whole(word, text.substr(0, cross), 1, 1 << 14);
        s.height = whole(word, text.substr(cross + 1), 1, 1 << 14);
    };
    using Take = std::function<void(const std::string&, const std::string&)>;
    const auto integer = [](int& target, int least, int most) -> Take {
        return [&target, least, most](auto& word, auto& text) { target = whole(word, text, least, most); };
    };
    const auto text = [](std::string& target) -> Take { return [&target](auto&, auto& given) { target = given; }; };
    const std::map<std::string, Take> options = {
        {"--landmarks", text(s.landmarks)},
        {"--format", text(s.format)},
        {"--picture", text(s.picture)},
        {"--raw", text(s.raw)},
        {"--size", size},
        {"--conf", [&](auto& word, auto& given) { s.conf = number(word, given, 0, 1); }},
        {"--threads", integer(s.threads, 1, 64)},
        {"--powersave", integer(s.powersave, 0, 2)},
        {"--vulkan", integer(s.vulkan, 0, 1)},
        {"--warmup", integer(s.warmup, 1, 1 << 20)},
        {"--loops", integer(s.loops, 1, most_samples)},
        {"--seconds", [&](auto& word, auto& given) { s.seconds = number(word, given, 0, 86400); }},
    };
    if (count < 3) fail(usage);
    s.kind = words[1];
    s.folder = words[2];
    const bool known = s.kind == "bench" || s.kind == "detect" || s.kind == "count";
    if (!known || s.folder.rfind("--", 0) == 0) fail(usage);
    for (int i = 3; i < count; i += 2) {
        const std::string word = words[i];
        if (!options.count(word)) fail("unknown option " + word + "; " + usage);
        if (i + 1 == count) fail(word + " needs a value");
        options.at(word)(word, words[i + 1]);
    }
    if (s.picture.empty() == s.raw.empty()) fail("give a picture, either --picture FILE or --raw FILE --size WxH");
    if (!s.raw.empty() && s.width == 0) fail("--raw needs --size WxH, the picture's size in pixels");
    return s;
}

std::size_t bytes_of(int width, int height) {
    return std::size_t{3} * static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
}

Picture read_picture(const Settings& s) {
    if (!s.raw.empty()) {
        Picture picture{toolkit::read_file(s.raw, "name a file of RGB bytes"), toolkit::Pixels::rgb, s.width, s.height};
        const std::size_t expected = bytes_of(s.width, s.height);
        if (picture.bytes.size() != expected)
            fail(s.raw + " has " + std::to_string(picture.bytes.size()) + " bytes, not the " +
                 std::to_string(expected) + " of an RGB picture of --size");
        return picture;
    }
    const cv::Mat image = cv::imread(s.picture, cv::IMREAD_COLOR);
    if (image.empty()) fail(s.picture + " does not decode as a picture: name a JPEG or PNG file");
    const auto* first = reinterpret_cast<const char*>(image.data);
    return {std::string(first, bytes_of(image.cols, image.rows)), toolkit::Pixels::bgr, image.cols, image.rows};
}

// A field of /proc/self/status in kB, "null" where the system does not tell.
std::string memory(const std::string& field) {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind(field + ":", 0) == 0) return std::to_string(std::atol(line.c_str() + field.size() + 1));
    return "null";
}

std::string fixed(double value, int digits) {
    if (!std::isfinite(value)) return "null";
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

std::string list(const std::vector<double>& values) {
    std::string out;
    for (const double value : values) out += (out.empty() ? "" : ", ") + fixed(value, 4);
    return "[" + out + "]";
}

std::string basename(const std::string& path) { return path.substr(path.find_last_of("/\\") + 1); }

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
}

struct Cascade {
    const toolkit::Network& detector;
    const std::optional<toolkit::Landmarks>& landmarks;  // where --landmarks names one
};

struct Found {
    std::vector<toolkit::Detection> detections;
    std::vector<std::vector<toolkit::Point>> points;  // of each detection, with a landmark network
};

// The steps in the order of a reading; the last one is the landmark network's.
constexpr const char* steps[] = {"preprocess", "inference", "postprocess", "landmarks"};

struct Loop {
    Clock::time_point start;
    std::array<double, std::size(steps)> passed;
};

Loop run_once(const Cascade& networks, const Picture& picture, float conf, Found& found) {
    const auto* pixels = reinterpret_cast<const unsigned char*>(picture.bytes.data());
    const int step = 3 * picture.width;
    const auto start = Clock::now();
    const ncnn::Mat input =
        networks.detector.preprocess(pixels, picture.order, picture.width, picture.height, step);
    const auto ready = Clock::now();
    const auto maps = networks.detector.forward(input);
    const auto inferred = Clock::now();
    found.detections = networks.detector.postprocess(maps, picture.width, picture.height, conf);
    const auto detected = Clock::now();
    found.points.clear();
    if (networks.landmarks)
        for (const auto& face : found.detections)
            found.points.push_back(networks.landmarks->place(pixels, picture.order, picture.width, picture.height,
                                                             step, face));
    return {start, {milliseconds(start, ready), milliseconds(ready, inferred), milliseconds(inferred, detected),
                    milliseconds(detected, Clock::now())}};
}

// "samples" and "first_ms" of a bench.
std::string measure(const Settings& s, const Cascade& networks, const Picture& picture, float conf, Found& found) {
    const Loop first = run_once(networks, picture, conf, found);
    for (int i = 1; i < s.warmup; ++i) run_once(networks, picture, conf, found);
    std::vector<double> start;
    std::array<std::vector<double>, std::size(steps)> samples;
    const auto begin = Clock::now();
    const auto more = [&](int done) {
        if (s.seconds > 0) return done < most_samples && milliseconds(begin, Clock::now()) < 1e3 * s.seconds;
        return done < s.loops;
    };
    Clock::time_point origin{};
    for (int i = 0; i == 0 || more(i); ++i) {
        const Loop loop = run_once(networks, picture, conf, found);
        if (i == 0) origin = loop.start;
        start.push_back(milliseconds(origin, loop.start));
        for (std::size_t k = 0; k < samples.size(); ++k) samples[k].push_back(loop.passed[k]);
    }
    std::string once, all = "\"start_ms\": " + list(start);
    for (std::size_t k = 0; k < samples.size() - (networks.landmarks ? 0 : 1); ++k) {
        const std::string name = steps[k];
        once += (k ? ", \"" : "\"") + name + "\": " + fixed(first.passed[k], 4);
        all += ", \"" + name + "_ms\": " + list(samples[k]);
    }
    return "\"first_ms\": {" + once + "}, \"samples\": {" + all + "}, ";
}

// A border for counter.c: a system call without effect, told from others by its argument, which it ignores.
void mark() { syscall(SYS_getppid, 0x746f6f6c); }

// "layers" of a count, in running order. Two marks enclose the whole network; then there is one before the first
// layer and one behind each.
std::string count_layers(const toolkit::Files& files, const toolkit::Options& options, const ncnn::Mat& input,
                         std::size_t outputs) {
    const toolkit::Engine engine(files, options);
    engine.forward(input, outputs);  // the memory that it works in
    mark();
    engine.forward(input, outputs);
    mark();
    const ncnn::Net& net = engine.net();
    ncnn::Extractor extractor = net.create_extractor();
    extractor.input("in0", input);
    mark();
    std::string rows;
    for (const ncnn::Layer* layer : net.layers()) {
        if (layer->type == "Input") continue;
        for (const int top : layer->tops) {
            ncnn::Mat map;
            extractor.extract(top, map, 1);  // 1: as the next layer reads it
        }
        mark();
        rows += (rows.empty() ? "" : ", ") + toolkit::quoted(layer->name);
    }
    return "\"layers\": [" + rows + "], ";
}

// "model" and "landmarks" of a reading.
std::string identity(const toolkit::Files& files) {
    const toolkit::Json& facts = files.document.at("formats").at(files.format).at("files");
    std::string hashes;
    for (const std::string suffix : {".param", ".bin"}) {
        const std::string name = toolkit::file_name(files.document, files.format, suffix);
        hashes += (hashes.empty() ? "" : ", ") + toolkit::quoted(name) + ": " +
                  toolkit::quoted(facts.at(name).at("sha256").text());
    }
    return "{\"name\": " + toolkit::quoted(files.document.at("name").text()) + ", \"format\": " +
           toolkit::quoted(files.format) + ", \"sha256\": {" + hashes + "}}";
}

// "detections" of a reading, in pixels of the picture.
std::string written(const Found& found, const toolkit::Spec& spec, const Picture& picture) {
    std::string rows;
    for (std::size_t i = 0; i < found.detections.size(); ++i) {
        const toolkit::Detection& d = found.detections[i];
        rows += (rows.empty() ? "" : ", ") + std::string("{\"class\": ") +
                toolkit::quoted(spec.classes.at(static_cast<std::size_t>(d.label))) + ", \"score\": " +
                fixed(d.score, 6) + ", \"box\": [" + fixed(d.x1 * picture.width, 3) + ", " +
                fixed(d.y1 * picture.height, 3) + ", " + fixed(d.x2 * picture.width, 3) + ", " +
                fixed(d.y2 * picture.height, 3) + "]";
        if (!found.points.empty()) {
            std::string points;
            for (const toolkit::Point& p : found.points[i])
                points += (points.empty() ? "[" : ", [") + fixed(p.x, 3) + ", " + fixed(p.y, 3) + "]";
            rows += ", \"landmarks\": [" + points + "]";
        }
        rows += "}";
    }
    return "[" + rows + "]";
}

int run(int count, char** words) {
    const Settings s = parse(count, words);
    const std::string resident = memory("VmRSS");
    const Picture picture = read_picture(s);
    const toolkit::Files files = toolkit::read_files(s.folder, s.format);
    std::optional<toolkit::Files> landmark_files;
    if (!s.landmarks.empty()) landmark_files = toolkit::read_files(s.landmarks, s.format);
#if NCNN_VULKAN
    if (s.vulkan && ncnn::get_gpu_count() == 0) fail("ncnn finds no Vulkan device here: leave --vulkan out");
#else
    if (s.vulkan) fail("this runner has no Vulkan: build it with the Android NDK (ANDROID_NDK)");
#endif
    if (s.powersave && ncnn::set_cpu_powersave(s.powersave) != 0)
        fail("the system does not let --powersave " + std::to_string(s.powersave) + " choose processors");

    const toolkit::Options options{s.threads, s.vulkan == 1};
    const auto begin = Clock::now();
    const toolkit::Network network(files, options);
    std::optional<toolkit::Landmarks> landmarks;
    if (landmark_files) landmarks.emplace(*landmark_files, options);
    const double load = milliseconds(begin, Clock::now());
    const std::string loaded = memory("VmRSS");
    const toolkit::Spec& spec = network.spec();
    const float conf = s.conf < 0 ? spec.threshold : static_cast<float>(s.conf);

    const bool bench = s.kind == "bench";
    const Cascade networks{network, landmarks};
    Found found;
    std::string samples;
    if (bench) samples = measure(s, networks, picture, conf, found);
    else run_once(networks, picture, conf, found);
    if (s.kind == "count") {
        const auto* pixels = reinterpret_cast<const unsigned char*>(picture.bytes.data());
        const ncnn::Mat input =
            network.preprocess(pixels, picture.order, picture.width, picture.height, 3 * picture.width);
        samples = count_layers(files, options, input, spec.heads.size());
    }

    const std::string precision = s.format == "ncnn" ? "fp32" : s.format.substr(std::string("ncnn-").size());
    std::printf("{\"schema\": 1, \"kind\": \"%s\", \"model\": %s, ", s.kind.c_str(), identity(files).c_str());
    if (landmark_files) std::printf("\"landmarks\": %s, ", identity(*landmark_files).c_str());
    std::printf("\"input\": {\"picture\": %s, \"width\": %d, \"height\": %d}, ",
                toolkit::quoted(basename(s.raw + s.picture)).c_str(), picture.width, picture.height);
    std::printf("\"settings\": {\"threads\": %d, \"powersave\": %d, \"precision\": \"%s\", \"vulkan\": %s, "
                "\"warmup\": %d, \"conf\": %s, \"run_as\": \"program\"}, ",
                s.threads, s.powersave, precision.c_str(), s.vulkan ? "true" : "false", bench ? s.warmup : 0,
                fixed(conf, 6).c_str());
    std::printf("%s, \"load_ms\": %s, %s", toolkit::machine(TOOLKIT_THREADS).c_str(), fixed(load, 4).c_str(),
                samples.c_str());
    std::printf("\"rss_kb\": {\"start\": %s, \"loaded\": %s, \"peak\": %s}, \"detections\": %s}\n",
                resident.c_str(), loaded.c_str(), memory("VmHWM").c_str(), written(found, spec, picture).c_str());
    if (std::fflush(stdout) != 0) fail("the output cannot be written: is the disk full?");
    return 0;
}

}  // namespace

int main(int count, char** words) {
    try {
        return run(count, words);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
