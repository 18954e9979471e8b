// What a reading says of the program and of the processor it ran on. The timing runner and the app share it.
#pragma once

#include <cpu.h>
#include <platform.h>

#include <string>
#include <utility>
#include <vector>

namespace toolkit {

inline std::string quoted(const std::string& text) {
    static const char* digits = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') (out += '\\') += c;
        else if (byte < 0x20) ((out += "\\u00") += digits[byte >> 4]) += digits[byte & 15];
        else out += c;
    }
    return out + '"';
}

// Instruction sets that ncnn finds and has kernels for, by the names of Linux.
inline std::vector<std::string> cpu_features() {
    const std::pair<const char*, int> known[] = {
#if defined(__arm__) || defined(__aarch64__)
        {"neon", ncnn::cpu_support_arm_neon()},       {"vfpv4", ncnn::cpu_support_arm_vfpv4()},
        {"asimdhp", ncnn::cpu_support_arm_asimdhp()}, {"asimddp", ncnn::cpu_support_arm_asimddp()},
        {"asimdfhm", ncnn::cpu_support_arm_asimdfhm()}, {"bf16", ncnn::cpu_support_arm_bf16()},
        {"i8mm", ncnn::cpu_support_arm_i8mm()},       {"sve", ncnn::cpu_support_arm_sve()},
        {"sve2", ncnn::cpu_support_arm_sve2()},
#else
        {"avx", ncnn::cpu_support_x86_avx()},         {"fma", ncnn::cpu_support_x86_fma()},
        {"f16c", ncnn::cpu_support_x86_f16c()},       {"avx2", ncnn::cpu_support_x86_avx2()},
        {"avx_vnni", ncnn::cpu_support_x86_avx_vnni()}, {"avx512", ncnn::cpu_support_x86_avx512()},
        {"avx512_vnni", ncnn::cpu_support_x86_avx512_vnni()},
        {"avx512_bf16", ncnn::cpu_support_x86_avx512_bf16()},
        {"avx512_fp16", ncnn::cpu_support_x86_avx512_fp16()},
#endif
    };
    std::vector<std::string> found;
    for (const auto& [name, there] : known)
        if (there) found.push_back(name);
    return found;
}

// "runtime" and "cpu" of a reading, as two members of a JSON object. `threads`: whose thread pool was linked.
inline std::string machine(const std::string& threads) {
#if defined(__aarch64__)
    const char* abi = "arm64-v8a";
#elif defined(__arm__)
    const char* abi = "armeabi-v7a";
#else
    const char* abi = "x86_64";
#endif
#if defined(__clang__)
    const std::string compiler = "clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__);
#else
    const std::string compiler = "gcc " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__);
#endif
    std::string features;
    for (const std::string& name : cpu_features()) features += (features.empty() ? "" : ", ") + quoted(name);
    return "\"runtime\": {\"ncnn\": " + quoted(NCNN_VERSION_STRING) + ", \"compiler\": " + quoted(compiler) +
           ", \"threads\": " + quoted(threads) + ", \"abi\": " + quoted(abi) +
           "}, \"cpu\": {\"cores\": " + std::to_string(ncnn::get_cpu_count()) +
           ", \"big\": " + std::to_string(ncnn::get_big_cpu_count()) +
           ", \"little\": " + std::to_string(ncnn::get_little_cpu_count()) + ", \"features\": [" + features +
           "]}";
}

}  // namespace toolkit
