// What the app does in C++, free of Java and of Android: frames of a camera, and detection with its times.
#pragma once

#include <vector>

#include "landmarks.hpp"

namespace toolkit {

// The bytes of one colour of a picture: rows are `row_step` bytes apart, pixels `pixel_step`.
struct Plane {
    const unsigned char* bytes;
    int row_step, pixel_step;
};

// Orientations are EXIF's, 1 to 8: how a picture has to be turned or mirrored to stand upright. From 5 on its
// width and height change places.

// A camera's frame of width x height, BT.601 with the full range 0..255 as Android's cameras give it, u and v
// of half the size -> upright RGBA without gaps between the rows.
void frame_to_rgba(const Plane& y, const Plane& u, const Plane& v, int width, int height, int orientation,
                   unsigned char* rgba);

// A picture of RGBA, `step` bytes a row -> the same upright, without gaps between the rows.
void turn(const unsigned char* rgba, int width, int height, int step, int orientation,
          unsigned char* upright);

struct Milliseconds {
    double preprocess = 0, inference = 0, postprocess = 0, landmarks = 0;
};

// By falling score. `points`: of each detection, none where it is no face.
struct Found {
    std::vector<Detection> detections;
    std::vector<std::vector<Point>> points;
};

// Detections in an RGBA picture without gaps. `landmarks`, where given, places points in those of the class
// `face`. `times` says what the steps took.
Found detect(const Network& network, const Landmarks* landmarks, int face, const unsigned char* rgba, int width,
             int height, float conf, float iou, Milliseconds& times);

// GPUs that ncnn can use: none where it was built without Vulkan.
int gpu_count();

}  // namespace toolkit
