// An exported detector in ncnn: from pixels to detections, in steps that can be timed one by one. The sample
// beside this file, the timing runner and the Android app all go through it.
#pragma once

#include <datareader.h>
#include <net.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "detector.hpp"

namespace toolkit {

struct Options {
    int threads = 1;
    bool vulkan = false;  // for builds of ncnn that have it
};

// Weights in memory, read to their end and not beyond.
class Weights : public ncnn::DataReader {
public:
    Weights(const unsigned char* bytes, std::size_t size) : next_(bytes), left_(size) {}
    int scan(const char*, void*) const override { return 0; }
    std::size_t read(void* target, std::size_t size) const override {
        const std::size_t count = std::min(size, left_);
        std::memcpy(target, next_, count);
        next_ += count;
        left_ -= count;
        return count;
    }
    std::size_t left() const { return left_; }

private:
    mutable const unsigned char* next_;
    mutable std::size_t left_;
};

// What an exported folder holds for one format, "ncnn", "ncnn-fp16" or "ncnn-int8".
struct Files {
    Json document;  // spec.json
    std::string format, param, weights;
};

// The name of a file of `format` beside spec.json. Throws std::runtime_error where there is no such format.
inline std::string file_name(const Json& document, const std::string& format, const std::string& suffix) {
    if (format.rfind("ncnn", 0) != 0 || !document.at("formats").has(format))
        throw std::runtime_error(document.at("name").text() + " has no " + format + ": export it with --to " + format);
    const std::string name = document.at("formats").at(format).at("file").text();
    return name.substr(0, name.rfind('.')) + suffix;
}

// Throws std::runtime_error, with `advice`, where there is no such file.
inline std::string read_file(const std::string& path, const std::string& advice) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream bytes;
    if (!file || !(bytes << file.rdbuf())) throw std::runtime_error("cannot read " + path + ": " + advice);
    return bytes.str();
}

// Throws std::runtime_error where one of them is missing.
inline Files read_files(const std::string& folder, const std::string& format) {
    const auto read = [&](const std::string& name) {
        return read_file(folder + "/" + name, "name a folder that toolkit export made");
    };
    const Json document = Json::parse(read("spec.json"));
    return {document, format, read(file_name(document, format, ".param")),
            read(file_name(document, format, ".bin"))};
}

// What ncnn makes of the files, whatever the network is for, and the memory that it works in.
class Engine {
public:
    // Throws std::runtime_error where the files do not fit each other.
    Engine(const Files& files, const Options& options) : memory_(new ncnn::PoolAllocator), net_(new ncnn::Net) {
        // Memory stays from one picture to the next: a system may give and take it page by page.
        memory_->set_size_drop_threshold(256);
        net_->opt.blob_allocator = net_->opt.workspace_allocator = memory_.get();
        net_->opt.num_threads = options.threads;
        net_->opt.use_vulkan_compute = options.vulkan;
        const bool half = files.format == "ncnn-fp16";
        net_->opt.use_fp16_packed = net_->opt.use_fp16_storage = net_->opt.use_fp16_arithmetic = half;
        const Weights weights(reinterpret_cast<const unsigned char*>(files.weights.data()), files.weights.size());
        if (net_->load_param_mem(files.param.c_str()) != 0 || net_->load_model(weights) != 0 || weights.left() != 0)
            throw std::runtime_error("ncnn cannot open " + file_name(files.document, files.format, ".param") +
                                     ": it is damaged or does not belong to its .bin");
    }

    ncnn::Allocator* memory() const { return memory_.get(); }
    const ncnn::Net& net() const { return *net_; }

    // The outputs out0, out1, ...
    std::vector<ncnn::Mat> forward(const ncnn::Mat& input, std::size_t outputs) const {
        ncnn::Extractor extractor = net_->create_extractor();
        extractor.input("in0", input);
        std::vector<ncnn::Mat> maps(outputs);
        for (std::size_t i = 0; i < outputs; ++i) {
            const std::string blob = "out" + std::to_string(i);
            if (extractor.extract(blob.c_str(), maps[i]) != 0)
                throw std::runtime_error("the network gives no " + blob);
        }
        return maps;
    }

private:
    std::unique_ptr<ncnn::PoolAllocator> memory_;  // outlives the network
    std::unique_ptr<ncnn::Net> net_;
};

class Network {
public:
    // Throws std::runtime_error.
    Network(const Files& files, const Options& options) : spec_(read_spec(files.document)), engine_(files, options) {}

    const Spec& spec() const { return spec_; }

    // A picture of width x height, `step` bytes a row, at the size of the network's input and scaled.
    ncnn::Mat preprocess(const unsigned char* pixels, Pixels order, int width, int height, int step) const {
        const Input& in = spec_.input;
        const Placement place = placement(in, width, height);
        std::vector<unsigned char> grey;
        if (in.channels == Channels::grey) {
            grey = luminance(pixels, order, width, height, step);
            pixels = grey.data();
            step = width;
        }
        ncnn::Mat input = ncnn::Mat::from_pixels_resize(pixels, conversion(order), width, height, step, place.width,
                                                        place.height, engine_.memory());
        if (place.width != in.width || place.height != in.height) input = bordered(input, place);
        const float mean[] = {in.mean, in.mean, in.mean};
        const float scale[] = {in.scale, in.scale, in.scale};
        input.substract_mean_normalize(mean, scale);
        return input;
    }

    // The raw head maps, coarsest first.
    std::vector<ncnn::Mat> forward(const ncnn::Mat& input) const {
        return engine_.forward(input, spec_.heads.size());
    }

    // By falling score; corners relative to the picture, which is of width x height.
    std::vector<Detection> postprocess(const std::vector<ncnn::Mat>& maps, int width, int height, float conf,
                                       float iou = 0.45f) const {
        std::vector<Detection> found;
        const int classes = static_cast<int>(spec_.classes.size());
        for (std::size_t i = 0; i < maps.size(); ++i) {
            const Head& head = spec_.heads[i];
            const int channels = static_cast<int>(head.anchors.size()) * (head.values() + classes);
            if (maps[i].c != channels)
                throw std::runtime_error(spec_.name + " gives a map of " + std::to_string(maps[i].c) +
                                         " channels, not " + std::to_string(channels) + ": export the network again");
            decode(maps[i], maps[i].w, maps[i].h, maps[i].cstep, head, classes, conf, found);
        }
        found = suppress(std::move(found), iou);
        to_picture(found, spec_.input, placement(spec_.input, width, height));
        return found;
    }

private:
    static constexpr float border = 127.5f;  // beside a picture that keeps its proportions

    // What ncnn makes of the bytes: the colours in the network's order, or the grey there already is.
    int conversion(Pixels order) const {
        if (spec_.input.channels == Channels::grey) return ncnn::Mat::PIXEL_GRAY;
        const bool bgr = spec_.input.channels == Channels::bgr;
        if (order == Pixels::rgba) return bgr ? ncnn::Mat::PIXEL_RGBA2BGR : ncnn::Mat::PIXEL_RGBA2RGB;
        return (order == Pixels::bgr) == bgr ? ncnn::Mat::PIXEL_RGB : ncnn::Mat::PIXEL_RGB2BGR;
    }

    ncnn::Mat bordered(const ncnn::Mat& inner, const Placement& place) const {
        const int right = spec_.input.width - place.width - place.left;
        const int bottom = spec_.input.height - place.height - place.top;
        ncnn::Option option;
        option.num_threads = 1;
        option.blob_allocator = engine_.memory();
        ncnn::Mat whole;
        ncnn::copy_make_border(inner, whole, place.top, bottom, place.left, right, ncnn::BORDER_CONSTANT, border,
                               option);
        return whole;
    }

    Spec spec_;
    Engine engine_;
};

}  // namespace toolkit
