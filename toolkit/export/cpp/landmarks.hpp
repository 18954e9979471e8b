// Points in a face that a detector found: the window around its box is cut out, and the landmark network places
// them in it. The same as toolkit/faces.py, which the project's tests hold it to.
#pragma once

#include "network.hpp"

namespace toolkit {

// In pixels of the picture, beyond it where the network thinks so.
struct Point {
    float x, y;
};

class Landmarks {
public:
    // Throws std::runtime_error.
    Landmarks(const Files& files, const Options& options)
        : spec_(read_landmark_spec(files.document)), engine_(files, options) {}

    const LandmarkSpec& spec() const { return spec_; }

    // Of a face in a picture of width x height, `step` bytes a row.
    std::vector<Point> place(const unsigned char* pixels, Pixels order, int width, int height, int step,
                             const Detection& face) const {
        const Window window = around(face, width, height);
        const ncnn::Mat relative = engine_.forward(cut(pixels, order, width, height, step, window), 1)[0];
        if (relative.w != 2 * spec_.points)
            throw std::runtime_error(spec_.name + " gives " + std::to_string(relative.w) + " numbers, not " +
                                     std::to_string(2 * spec_.points) + ": export the network again");
        std::vector<Point> points(static_cast<std::size_t>(spec_.points));
        for (std::size_t i = 0; i < points.size(); ++i)
            points[i] = {window.x.start + relative[2 * i] * window.x.length,
                         window.y.start + relative[2 * i + 1] * window.y.length};
        return points;
    }

private:
    static constexpr float outside = 127;  // grey of a cut where there is no picture

    struct Span {
        float start, length;  // px
    };

    struct Window {
        Span x, y;
    };

    Window around(const Detection& face, int width, int height) const {
        const auto [side, up, down] = spec_.crop;
        const float across = static_cast<float>(width), upright = static_cast<float>(height);
        const float x = (face.x1 + face.x2) / 2 * across, w = (face.x2 - face.x1) * across;
        const float y = (face.y1 + face.y2) / 2 * upright, h = (face.y2 - face.y1) * upright;
        return {{x - side * w, std::max(1.f, 2 * side * w)}, {y - up * h, std::max(1.f, (up + down) * h)}};
    }

    // The two rows or columns of the picture that one of the cut lies between, and their shares in it: 0 for
    // what is outside the picture.
    struct Taps {
        int low, high;
        float low_share, high_share;
    };

    // For each of `count` rows or columns of the cut, where the picture has `limit`.
    static std::vector<Taps> taps(const Span& span, int count, int limit) {
        std::vector<Taps> out;
        for (int i = 0; i < count; ++i) {
            const double at = span.start + (i + 0.5) * span.length / count - 0.5;  // pixels count from their centres
            const double low = std::floor(at), high = low + 1;
            const bool low_in = low >= 0 && low < limit, high_in = high >= 0 && high < limit;
            out.push_back({low_in ? static_cast<int>(low) : 0, high_in ? static_cast<int>(high) : 0,
                           low_in ? static_cast<float>(high - at) : 0, high_in ? static_cast<float>(at - low) : 0});
        }
        return out;
    }

    // The network's input: a window of the picture, bilinear. Not by ncnn's warpaffine, which rounds down and on
    // ARM takes rows of at most 32767 bytes.
    ncnn::Mat cut(const unsigned char* pixels, Pixels order, int width, int height, int step,
                  const Window& window) const {
        const Input& in = spec_.input;
        const int size = order == Pixels::rgba ? 4 : 3;
        const bool reversed = (order == Pixels::bgr) != (in.channels == Channels::bgr);
        const std::vector<Taps> rows = taps(window.y, in.height, height), columns = taps(window.x, in.width, width);
        ncnn::Mat input(in.width, in.height, 3, sizeof(float), engine_.memory());
        for (int channel = 0; channel < 3; ++channel) {
            const unsigned char* first = pixels + (reversed ? 2 - channel : channel);
            float* target = input.channel(channel);
            for (const Taps& row : rows) {
                const unsigned char* above = first + static_cast<std::ptrdiff_t>(row.low) * step;
                const unsigned char* below = first + static_cast<std::ptrdiff_t>(row.high) * step;
                for (const Taps& column : columns) {
                    const auto mixed = [&](const unsigned char* line) {
                        return column.low_share * (static_cast<float>(line[column.low * size]) - outside) +
                               column.high_share * (static_cast<float>(line[column.high * size]) - outside);
                    };
                    const float value = outside + row.low_share * mixed(above) + row.high_share * mixed(below);
                    *target++ = (value - in.mean) * in.scale;
                }
            }
        }
        return input;
    }

    LandmarkSpec spec_;
    Engine engine_;
};

}  // namespace toolkit
