// The native methods of toolkit.app.Core. Bytes cross in direct buffers, detections as floats; what goes
// wrong becomes an IllegalArgumentException with one sentence.
#include <jni.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core.hpp"
#include "machine.hpp"

namespace {

// The bytes of a direct buffer, at least `needed` of them.
unsigned char* bytes_of(JNIEnv* env, jobject buffer, std::int64_t needed = 0) {
    void* address = buffer ? env->GetDirectBufferAddress(buffer) : nullptr;
    if (!address || needed < 0 || env->GetDirectBufferCapacity(buffer) < needed)
        throw std::runtime_error("expected a direct buffer of at least " + std::to_string(needed) + " bytes");
    return static_cast<unsigned char*>(address);
}

std::string text_of(JNIEnv* env, jobject buffer) {
    const char* text = reinterpret_cast<const char*>(bytes_of(env, buffer));
    return {text, static_cast<std::size_t>(env->GetDirectBufferCapacity(buffer))};
}

// The bytes that a picture takes, up to its last pixel.
std::int64_t extent(int width, int height, int row_step, int pixel_step) {
    if (width <= 0 || height <= 0) throw std::runtime_error("a picture has a width and a height above 0");
    return std::int64_t{height - 1} * row_step + std::int64_t{width - 1} * pixel_step + 1;
}

template <class Work>
auto guarded(JNIEnv* env, const Work& work) -> decltype(work()) {
    try {
        return work();
    } catch (const std::exception& error) {
        env->ThrowNew(env->FindClass("java/lang/IllegalArgumentException"), error.what());
        return decltype(work())();
    }
}

toolkit::Files files_of(JNIEnv* env, jobject spec, jstring format, jobject param, jobject weights) {
    const char* letters = env->GetStringUTFChars(format, nullptr);
    const std::string name = letters;
    env->ReleaseStringUTFChars(format, letters);
    return {toolkit::Json::parse(text_of(env, spec)), name, text_of(env, param), text_of(env, weights)};
}

}  // namespace

#define NATIVE(result, name) extern "C" JNIEXPORT result JNICALL Java_toolkit_app_Core_##name

NATIVE(jlong, open)(JNIEnv* env, jclass, jobject spec, jstring format, jobject param, jobject weights,
                    jint threads, jboolean vulkan) {
    return guarded(env, [&] {
        return reinterpret_cast<jlong>(new toolkit::Network(files_of(env, spec, format, param, weights),
                                                            {threads, vulkan == JNI_TRUE}));
    });
}

NATIVE(void, close)(JNIEnv*, jclass, jlong handle) { delete reinterpret_cast<toolkit::Network*>(handle); }

NATIVE(jlong, openLandmarks)(JNIEnv* env, jclass, jobject spec, jstring format, jobject param, jobject weights,
                             jint threads, jboolean vulkan) {
    return guarded(env, [&] {
        return reinterpret_cast<jlong>(new toolkit::Landmarks(files_of(env, spec, format, param, weights),
                                                              {threads, vulkan == JNI_TRUE}));
    });
}

NATIVE(void, closeLandmarks)(JNIEnv*, jclass, jlong handle) {
    delete reinterpret_cast<toolkit::Landmarks*>(handle);
}

NATIVE(jfloatArray, detect)(JNIEnv* env, jclass, jlong handle, jlong landmarksHandle, jint face, jobject rgba,
                            jint width, jint height, jfloat conf, jfloat iou, jdoubleArray milliseconds) {
    return guarded(env, [&] {
        if (!handle) throw std::runtime_error("this network is closed");
        const auto& network = *reinterpret_cast<const toolkit::Network*>(handle);
        const auto* landmarks = reinterpret_cast<const toolkit::Landmarks*>(landmarksHandle);
        const unsigned char* pixels = bytes_of(env, rgba, extent(width, height, 4 * width, 4) + 3);
        toolkit::Milliseconds times;
        const toolkit::Found found =
            toolkit::detect(network, landmarks, face, pixels, width, height, conf, iou, times);
        const auto w = static_cast<float>(width), h = static_cast<float>(height);
        const std::size_t points = landmarks ? static_cast<std::size_t>(landmarks->spec().points) : 0;
        const float nan = std::numeric_limits<float>::quiet_NaN();
        std::vector<float> rows;
        for (std::size_t i = 0; i < found.detections.size(); ++i) {
            const toolkit::Detection& d = found.detections[i];
            const auto label = static_cast<float>(d.label);
            rows.insert(rows.end(), {d.x1 * w, d.y1 * h, d.x2 * w, d.y2 * h, d.score, label});
            for (std::size_t k = 0; k < points; ++k) {
                const toolkit::Point p = found.points[i].empty() ? toolkit::Point{nan, nan} : found.points[i][k];
                rows.insert(rows.end(), {p.x, p.y});
            }
        }
        const jdouble steps[] = {times.preprocess, times.inference, times.postprocess, times.landmarks};
        env->SetDoubleArrayRegion(milliseconds, 0, 4, steps);
        const auto count = static_cast<jsize>(rows.size());
        jfloatArray result = env->NewFloatArray(count);
        if (result) env->SetFloatArrayRegion(result, 0, count, rows.data());
        return result;
    });
}

NATIVE(void, frame)(JNIEnv* env, jclass, jobject y, jobject u, jobject v, jint width, jint height,
                    jint rowStep, jint chromaRowStep, jint chromaPixelStep, jint orientation, jobject rgba) {
    guarded(env, [&] {
        const std::int64_t chroma = extent((width + 1) / 2, (height + 1) / 2, chromaRowStep, chromaPixelStep);
        const unsigned char* light = bytes_of(env, y, extent(width, height, rowStep, 1));
        toolkit::frame_to_rgba({light, rowStep, 1},
                               {bytes_of(env, u, chroma), chromaRowStep, chromaPixelStep},
                               {bytes_of(env, v, chroma), chromaRowStep, chromaPixelStep}, width, height,
                               orientation, bytes_of(env, rgba, std::int64_t{4} * width * height));
    });
}

NATIVE(void, turn)(JNIEnv* env, jclass, jobject rgba, jint width, jint height, jint step, jint orientation,
                   jobject upright) {
    guarded(env, [&] {
        const unsigned char* pixels = bytes_of(env, rgba, extent(width, height, step, 4) + 3);
        toolkit::turn(pixels, width, height, step, orientation,
                      bytes_of(env, upright, std::int64_t{4} * width * height));
    });
}

NATIVE(jstring, machine)(JNIEnv* env, jclass) {
    return guarded(env, [&] { return env->NewStringUTF(("{" + toolkit::machine(TOOLKIT_THREADS) + "}").c_str()); });
}

NATIVE(jint, gpus)(JNIEnv*, jclass) { return toolkit::gpu_count(); }
