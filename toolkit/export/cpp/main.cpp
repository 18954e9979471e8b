// Finds objects in a picture with a network that toolkit export wrote, through ncnn.
//   detect FOLDER PICTURE [--format ncnn-fp16] [--conf 0.25] [--threads 2] [--output found.jpg]
#include <platform.h>
#if NCNN_SIMPLEOCV
#include <simpleocv.h>
#else
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#endif

#include <cstdio>
#include <fstream>
#include <sstream>

#include "network.hpp"

namespace {

std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("there is no " + path + ": name a folder that toolkit export made");
    std::stringstream bytes;
    bytes << file.rdbuf();
    return bytes.str();
}

double number(const std::string& word, const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (end == text.c_str() || *end || !(value >= 0)) throw std::runtime_error(word + " takes a number, not " + text);
    return value;
}

int run(int count, char** words) {
    std::string folder, picture, format = "ncnn", output;
    float conf = -1;
    int threads = 2;
    for (int i = 1; i < count; ++i) {
        const std::string word = words[i];
        if (word.rfind("--", 0) == 0) {
            if (i + 1 == count) throw std::runtime_error(word + " needs a value");
            const std::string value = words[++i];
            if (word == "--format") format = value;
            else if (word == "--conf") conf = static_cast<float>(number(word, value));
            else if (word == "--threads") threads = static_cast<int>(number(word, value));
            else if (word == "--output") output = value;
            else throw std::runtime_error("unknown option " + word);
        } else if (folder.empty()) folder = word;
        else if (picture.empty()) picture = word;
        else throw std::runtime_error("one folder and one picture, not also " + word);
    }
    if (picture.empty()) throw std::runtime_error("expected: detect FOLDER PICTURE");

    const toolkit::Json document = toolkit::Json::parse(read(folder + "/spec.json"));
    const std::string param = read(folder + "/" + toolkit::Network::file(document, format, ".param"));
    const std::string weights = read(folder + "/" + toolkit::Network::file(document, format, ".bin"));
    const auto* bytes = reinterpret_cast<const unsigned char*>(weights.data());
    const toolkit::Network network(document, format, param, bytes, weights.size(), {threads});
    const toolkit::Spec& spec = network.spec();

    cv::Mat image = cv::imread(picture, 1);
    if (image.empty()) throw std::runtime_error(picture + " does not decode as a picture");
    const ncnn::Mat input =
        network.preprocess(image.data, toolkit::Pixels::bgr, image.cols, image.rows, 3 * image.cols);
    const auto found = network.postprocess(network.forward(input), conf < 0 ? spec.threshold : conf);
    for (const auto& d : found) {
        const int x = static_cast<int>(d.x1 * image.cols), y = static_cast<int>(d.y1 * image.rows);
        const int w = static_cast<int>((d.x2 - d.x1) * image.cols), h = static_cast<int>((d.y2 - d.y1) * image.rows);
        const std::string& name = spec.classes.at(static_cast<std::size_t>(d.label));
        std::printf("%s %.5f %.2f %.2f %.2f %.2f\n", name.c_str(), d.score, d.x1 * image.cols,
                    d.y1 * image.rows, d.x2 * image.cols, d.y2 * image.rows);
        if (output.empty()) continue;
        cv::rectangle(image, cv::Rect(x, y, w, h), cv::Scalar(0, 160, 255), 2);
        cv::putText(image, name, cv::Point(x, std::max(12, y - 4)), cv::FONT_HERSHEY_SIMPLEX, 0.5,
                    cv::Scalar(0, 160, 255));
    }
    if (!output.empty() && !cv::imwrite(output, image)) throw std::runtime_error("cannot write " + output);
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
