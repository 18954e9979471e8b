// The declarations of OpenMP's runtime that ncnn calls by name. Compilers without one (zig) bring no omp.h.
#pragma once

extern "C" {
int omp_get_max_threads(void);
int omp_get_num_threads(void);
int omp_get_thread_num(void);
int omp_get_dynamic(void);
void omp_set_num_threads(int count);
void omp_set_dynamic(int dynamic);
int kmp_get_blocktime(void);
void kmp_set_blocktime(int milliseconds);
}
