#include "core.hpp"

#include <gpu.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <utility>

namespace toolkit {

namespace {

// Calls write(column, row, target) for every pixel of the upright picture: where it lies in the source.
template <class Write>
void upright(int width, int height, int orientation, unsigned char* target, const Write& write) {
    if (orientation < 1 || orientation > 8) throw std::runtime_error("an orientation is 1 to 8");
    const bool transposed = orientation >= 5;
    const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    const int across = transposed ? height : width, down = transposed ? width : height;
    for (int y = 0; y < down; ++y) {
        for (int x = 0; x < across; ++x, target += 4) {
            const int column = transposed ? y : x, row = transposed ? x : y;
            write(from_right ? width - 1 - column : column, from_below ? height - 1 - row : row, target);
        }
    }
}

// From a value times 65536.
unsigned char to_byte(int scaled) {
    return static_cast<unsigned char>(std::clamp((scaled + 32768) >> 16, 0, 255));
}

unsigned char at(const Plane& plane, int column, int row) {
    return plane.bytes[static_cast<std::ptrdiff_t>(row) * plane.row_step + column * plane.pixel_step];
}

double since(std::chrono::steady_clock::time_point& last) {
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double, std::milli> passed = now - std::exchange(last, now);
    return passed.count();
}

}  // namespace

void frame_to_rgba(const Plane& y, const Plane& u, const Plane& v, int width, int height, int orientation,
                   unsigned char* rgba) {
    upright(width, height, orientation, rgba, [&](int column, int row, unsigned char* pixel) {
        const int light = at(y, column, row) << 16;
        const int blue = at(u, column / 2, row / 2) - 128, red = at(v, column / 2, row / 2) - 128;
        pixel[0] = to_byte(light + 91881 * red);  // 1.402 x 65536, and so on
        pixel[1] = to_byte(light - 22554 * blue - 46802 * red);
        pixel[2] = to_byte(light + 116130 * blue);
        pixel[3] = 255;
    });
}

void turn(const unsigned char* rgba, int width, int height, int step, int orientation,
          unsigned char* target) {
    upright(width, height, orientation, target, [&](int column, int row, unsigned char* pixel) {
        std::copy_n(rgba + static_cast<std::ptrdiff_t>(row) * step + 4 * column, 4, pixel);
    });
}

Found detect(const Network& network, const Landmarks* landmarks, int face, const unsigned char* rgba, int width,
             int height, float conf, float iou, Milliseconds& times) {
    const int step = 4 * width;
    auto last = std::chrono::steady_clock::now();
    const ncnn::Mat input = network.preprocess(rgba, Pixels::rgba, width, height, step);
    times.preprocess = since(last);
    const std::vector<ncnn::Mat> maps = network.forward(input);
    times.inference = since(last);
    Found found{network.postprocess(maps, width, height, conf, iou), {}};
    times.postprocess = since(last);
    found.points.resize(found.detections.size());
    for (std::size_t i = 0; landmarks && i < found.points.size(); ++i)
        if (found.detections[i].label == face)
            found.points[i] = landmarks->place(rgba, Pixels::rgba, width, height, step, found.detections[i]);
    times.landmarks = since(last);
    return found;
}

int gpu_count() {
#if NCNN_VULKAN
    return ncnn::get_gpu_count();
#else
    return 0;
#endif
}

}  // namespace toolkit
