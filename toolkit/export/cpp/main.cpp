// Finds objects in a picture with a network that toolkit export wrote, through ncnn.
//   detect FOLDER PICTURE [--landmarks FOLDER] [--format ncnn-fp16] [--conf 0.25] [--threads 2]
//                         [--output found.jpg]
// A line for each object: its class, score and box, x1 y1 x2 y2 in pixels. With a landmark network, which takes
// what is found for faces, a second line beneath it: a blank, then x y of each point.
#include <platform.h>
#if NCNN_SIMPLEOCV
#include <simpleocv.h>
#else
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#endif

#include <cstdio>
#include <optional>

#include "landmarks.hpp"

namespace {

double number(const std::string& word, const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (end == text.c_str() || *end || !(value >= 0)) throw std::runtime_error(word + " takes a number, not " + text);
    return value;
}

int run(int count, char** words) {
    std::string folder, picture, points_folder, format = "ncnn", output;
    float conf = -1;
    int threads = 2;
    for (int i = 1; i < count; ++i) {
        const std::string word = words[i];
        if (word.rfind("--", 0) == 0) {
            if (i + 1 == count) throw std::runtime_error(word + " needs a value");
            const std::string value = words[++i];
            if (word == "--landmarks") points_folder = value;
            else if (word == "--format") format = value;
            else if (word == "--conf") conf = static_cast<float>(number(word, value));
            else if (word == "--threads") threads = static_cast<int>(number(word, value));
            else if (word == "--output") output = value;
            else throw std::runtime_error("unknown option " + word);
        } else if (folder.empty()) folder = word;
        else if (picture.empty()) picture = word;
        else throw std::runtime_error("one folder and one picture, not also " + word);
    }
    if (picture.empty()) throw std::runtime_error("expected: detect FOLDER PICTURE");

    const toolkit::Options options{threads};
    const toolkit::Network network(toolkit::read_files(folder, format), options);
    const toolkit::Spec& spec = network.spec();
    std::optional<toolkit::Landmarks> landmarks;
    if (!points_folder.empty()) landmarks.emplace(toolkit::read_files(points_folder, format), options);

    const cv::Mat image = cv::imread(picture, 1);
    if (image.empty()) throw std::runtime_error(picture + " does not decode as a picture");
    const int step = 3 * image.cols;
    const auto bgr = toolkit::Pixels::bgr;
    const ncnn::Mat input = network.preprocess(image.data, bgr, image.cols, image.rows, step);
    cv::Mat drawn = image.clone();
    const cv::Scalar orange(0, 160, 255), green(0, 255, 0);
    const auto maps = network.forward(input);
    for (const auto& d : network.postprocess(maps, image.cols, image.rows, conf < 0 ? spec.threshold : conf)) {
        const int x = static_cast<int>(d.x1 * image.cols), y = static_cast<int>(d.y1 * image.rows);
        const int w = static_cast<int>((d.x2 - d.x1) * image.cols), h = static_cast<int>((d.y2 - d.y1) * image.rows);
        const std::string& name = spec.classes.at(static_cast<std::size_t>(d.label));
        std::printf("%s %.5f %.2f %.2f %.2f %.2f\n", name.c_str(), d.score, d.x1 * image.cols,
                    d.y1 * image.rows, d.x2 * image.cols, d.y2 * image.rows);
        cv::rectangle(drawn, cv::Rect(x, y, w, h), orange, 2);
        cv::putText(drawn, name, cv::Point(x, std::max(12, y - 4)), cv::FONT_HERSHEY_SIMPLEX, 0.5, orange);
        if (!landmarks) continue;
        for (const auto& p : landmarks->place(image.data, bgr, image.cols, image.rows, step, d)) {
            std::printf(" %.2f %.2f", p.x, p.y);
            if (p.x >= 0 && p.y >= 0 && p.x < image.cols && p.y < image.rows)
                cv::circle(drawn, cv::Point(static_cast<int>(p.x), static_cast<int>(p.y)), 2, green, -1);
        }
        std::printf("\n");
    }
    if (!output.empty() && !cv::imwrite(output, drawn)) throw std::runtime_error("cannot write " + output);
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
