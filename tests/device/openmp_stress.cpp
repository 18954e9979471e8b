// Parallel loops as ncnn has them, on many numbers of threads, checked against what a serial loop gives. To be
// compiled with -fopenmp by clang, with toolkit/device/runner/openmp.cpp as the runtime.
//   openmp_stress loops | networks | callers | exit | exit-inside
#include <omp.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

namespace {

void expect(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "wrong: %s\n", what);
    std::_Exit(1);
}

// Every index once, by the threads of a team of `threads`.
void count_up(int n, int threads) {
    std::vector<int> hits(static_cast<std::size_t>(n)), who(static_cast<std::size_t>(n), -1);
#pragma omp parallel for num_threads(threads)
    for (int i = 0; i < n; ++i) {
        ++hits[static_cast<std::size_t>(i)];
        who[static_cast<std::size_t>(i)] = omp_get_thread_num();
        expect(omp_get_num_threads() == threads, "the size of the team");
    }
    for (int i = 0; i < n; ++i) {
        expect(hits[static_cast<std::size_t>(i)] == 1, "an index not met once");
        if (i) expect(who[static_cast<std::size_t>(i)] >= who[static_cast<std::size_t>(i - 1)], "the order of shares");
    }
    if (n >= threads) expect(who.back() == threads - 1, "a thread without work");
    expect(omp_get_num_threads() == 1 && omp_get_thread_num() == 0, "the place behind the region");
}

void other_loops(int threads) {
    std::vector<int> hits(1000);
#pragma omp parallel for num_threads(threads)
    for (long long i = 999; i >= 0; i -= 3) ++hits[static_cast<std::size_t>(i)];
    for (int i = 0; i < 1000; ++i) expect(hits[static_cast<std::size_t>(i)] == (i % 3 == 0), "a step of -3");
    std::vector<int> halves(500);
#pragma omp parallel for num_threads(threads)
    for (unsigned i = 0; i < 1000u; i += 2) ++halves[i / 2];
    for (const int hit : halves) expect(hit == 1, "an unsigned loop");
    std::vector<int> cells(7 * 11);
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int y = 0; y < 7; ++y)
        for (int x = 0; x < 11; ++x) cells[static_cast<std::size_t>(11 * y + x)] += y + x;
    expect(std::accumulate(cells.begin(), cells.end(), 0) == 616, "two loops in one");
    std::vector<int> sums(static_cast<std::size_t>(threads) * 2);
#pragma omp parallel for num_threads(threads)
    for (int i = 0; i < threads * 2; ++i) {
        const int outer = omp_get_thread_num();
        int sum = 0;
#pragma omp parallel for num_threads(3)
        for (int k = 0; k < 5; ++k) {  // serial, or the sum would race
            expect(omp_get_num_threads() == 1 && omp_get_thread_num() == 0, "a region inside a region");
            sum += k;
        }
        expect(omp_get_thread_num() == outer, "the place behind a region inside a region");
        sums[static_cast<std::size_t>(i)] = sum;
    }
    for (const int sum : sums) expect(sum == 10, "sums of regions inside a region");
}

void many_arguments(int threads) {
    int a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8, i1 = 9, j = 10, k = 11, l = 12, m = 13, n = 14;
    std::vector<int> out(50);
#pragma omp parallel for num_threads(threads)
    for (int i = 0; i < 50; ++i)
        out[static_cast<std::size_t>(i)] = i + a + b + c + d + e + f + g + h + i1 + j + k + l + m + n;
    for (int i = 0; i < 50; ++i) expect(out[static_cast<std::size_t>(i)] == i + 105, "many captured variables");
}

void loops(int rounds) {
    for (int round = 0; round < rounds; ++round) {
        kmp_set_blocktime(round % 3 == 0 ? 0 : 20);  // 0: workers fall asleep at once
        for (const int threads : {1, 3, 2, 7, 5, 1, 4}) {
            for (const int n : {0, 1, 2, 13, 100}) count_up(n, threads);
            other_loops(threads);
            many_arguments(threads);
        }
        if (round % 8 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    }
}

// Layers of `sizes` values one after the other, each made of the one before, which other threads made.
std::vector<int> network(std::vector<int> values, const std::vector<int>& sizes, int threads) {
    for (const int n : sizes) {
        std::vector<int> out(static_cast<std::size_t>(n));
#pragma omp parallel for num_threads(threads)
        for (int i = 0; i < n; ++i)
            out[static_cast<std::size_t>(i)] = values[static_cast<std::size_t>(7 * i) % values.size()] + i;
        values = out;
    }
    return values;
}

// Two networks in turn, the second on what the first gave, on other numbers of threads, which sleep between the
// layers of one and spin between those of the other.
void networks(int rounds) {
    const std::vector<int> image(50, 1), detector{100, 13, 57, 1, 24, 80}, landmarks{9, 64, 2, 31};
    const std::vector<int> wanted = network(network(image, detector, 1), landmarks, 1);
    const int pairs[][2] = {{4, 3}, {1, 5}, {3, 1}, {2, 7}};
    for (int round = 0; round < rounds; ++round) {
        const auto& [first, second] = pairs[round % 4];
        kmp_set_blocktime(20);
        const std::vector<int> found = network(image, detector, first);
        kmp_set_blocktime(0);
        expect(network(found, landmarks, second) == wanted, "two networks in turn");
    }
}

[[noreturn]] void work_forever() {
    for (;;) count_up(100, 3);
}

}  // namespace

int main(int count, char** words) {
    const char* mode = count > 1 ? words[1] : "";
    if (!std::strcmp(mode, "loops")) loops(40);
    else if (!std::strcmp(mode, "networks")) networks(400);
    else if (!std::strcmp(mode, "callers")) {
        for (int turn = 0; turn < 3; ++turn) {  // threads with workers of their own come and go
            std::thread first(loops, 8), second(loops, 8);
            loops(8);
            first.join();
            second.join();
        }
    } else if (!std::strcmp(mode, "exit")) {
        std::thread(work_forever).detach();
        loops(2);  // workers of this thread still spin
        std::exit(7);
    } else if (!std::strcmp(mode, "exit-inside")) {
#pragma omp parallel for num_threads(3)
        for (int i = 0; i < 3; ++i) {
            if (omp_get_thread_num() == 0) std::exit(7);
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
    } else return 2;
    std::puts("good");
    return 0;
}
