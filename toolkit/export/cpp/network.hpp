// One exported network in ncnn: from pixels to detections, in steps that can be timed one by one. The sample
// beside this file, the timing runner and the Android app all go through it.
#pragma once

#include <datareader.h>
#include <net.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "detector.hpp"

namespace toolkit {

enum class Pixels { rgb, bgr, rgba };

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

class Network {
public:
    // `document`: spec.json. `param`, `bytes`: what the two files of `format` hold ("ncnn", "ncnn-fp16" or
    // "ncnn-int8"); both are copied. Throws std::runtime_error.
    Network(const Json& document, const std::string& format, const std::string& param,
            const unsigned char* bytes, std::size_t size, const Options& options)
        : spec_(read_spec(document)), memory_(new ncnn::PoolAllocator), net_(new ncnn::Net) {
        // Memory stays from one picture to the next: a system may give and take it page by page.
        memory_->set_size_drop_threshold(256);
        net_->opt.blob_allocator = net_->opt.workspace_allocator = memory_.get();
        net_->opt.num_threads = options.threads;
        net_->opt.use_vulkan_compute = options.vulkan;
        const bool half = format == "ncnn-fp16";
        net_->opt.use_fp16_packed = net_->opt.use_fp16_storage = net_->opt.use_fp16_arithmetic = half;
        const Weights weights(bytes, size);
        if (net_->load_param_mem(param.c_str()) != 0 || net_->load_model(weights) != 0 || weights.left() != 0)
            throw std::runtime_error("ncnn cannot open " + file(document, format, ".param") +
                                     ": it is damaged or does not belong to its .bin");
    }

    // The name of a file of `format` beside spec.json. Throws where the folder has no such format.
    static std::string file(const Json& document, const std::string& format, const std::string& suffix) {
        if (format.rfind("ncnn", 0) != 0 || !document.at("formats").has(format))
            throw std::runtime_error("this exported network has no " + format + ": export it with --to " + format);
        const std::string name = document.at("formats").at(format).at("file").text();
        return name.substr(0, name.rfind('.')) + suffix;
    }

    const Spec& spec() const { return spec_; }

    // A picture of width x height, `step` bytes a row, stretched and scaled to the network's input.
    ncnn::Mat preprocess(const unsigned char* pixels, Pixels order, int width, int height, int step) const {
        const int type = order == Pixels::rgba ? (spec_.bgr ? ncnn::Mat::PIXEL_RGBA2BGR : ncnn::Mat::PIXEL_RGBA2RGB)
                         : (order == Pixels::bgr) == spec_.bgr ? ncnn::Mat::PIXEL_RGB
                                                               : ncnn::Mat::PIXEL_RGB2BGR;
        ncnn::Mat input =
            ncnn::Mat::from_pixels_resize(pixels, type, width, height, step, spec_.width, spec_.height,
                                          memory_.get());
        const float mean[] = {spec_.mean, spec_.mean, spec_.mean};
        const float scale[] = {spec_.scale, spec_.scale, spec_.scale};
        input.substract_mean_normalize(mean, scale);
        return input;
    }

    // The raw head maps, coarsest first.
    std::vector<ncnn::Mat> forward(const ncnn::Mat& input) const {
        ncnn::Extractor extractor = net_->create_extractor();
        extractor.input("in0", input);
        std::vector<ncnn::Mat> maps(spec_.heads.size());
        for (std::size_t i = 0; i < maps.size(); ++i) {
            const std::string blob = "out" + std::to_string(i);
            if (extractor.extract(blob.c_str(), maps[i]) != 0)
                throw std::runtime_error("the network gives no " + blob);
        }
        return maps;
    }

    // By falling score; corners relative to the picture.
    std::vector<Detection> postprocess(const std::vector<ncnn::Mat>& maps, float conf, float iou = 0.45f) const {
        std::vector<Detection> found;
        for (std::size_t i = 0; i < maps.size(); ++i)
            decode(maps[i], maps[i].w, maps[i].h, maps[i].cstep, spec_.heads[i],
                   static_cast<int>(spec_.classes.size()), conf, found);
        return suppress(std::move(found), iou);
    }

private:
    Spec spec_;
    std::unique_ptr<ncnn::PoolAllocator> memory_;  // outlives the network
    std::unique_ptr<ncnn::Net> net_;
};

}  // namespace toolkit
