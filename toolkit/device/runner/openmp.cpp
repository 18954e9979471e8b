// OpenMP's runtime for compilers that bring none, as far as ncnn needs it: parallel loops with a static
// schedule, behind the entry points that clang calls (LLVM's libomp defines them). A build of ncnn that needs
// another one does not link.
//
// Every thread that opens a parallel region has workers of its own, so callers do not wait for each other.
// They start when first needed and spin between regions, which is what makes regions of some microseconds pay;
// after the block time they sleep. A region inside a region runs on the thread that meets it.
#include <omp.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace {

using Microtask = void (*)(int*, int*, ...);  // what clang makes of the body of a region
constexpr std::size_t most_arguments = 64;

// Where this thread stands: alone unless it works on a region.
struct Place {
    int thread = 0, team = 1;
    bool inside = false;
};
thread_local Place place;
thread_local int wanted = 0;  // by omp_set_num_threads; 0: as many as there are processors
thread_local int pushed = 0;  // for the next region alone, by num_threads(n)

int processors() {
    static const int count = static_cast<int>(std::thread::hardware_concurrency());
    return count > 0 ? count : 1;
}

// A count that one side raises and another waits for.
class Counter {
public:
    void raise() {
        count_.fetch_add(1);
        if (!asleep_.load()) return;  // both sequentially consistent: either we see the sleeper or it the count
        const std::lock_guard<std::mutex> lock(mutex_);
        raised_.notify_one();
    }

    // Waits until the count has come to `target`: busily for so long, then asleep.
    void wait(std::uint32_t target, int milliseconds) {
        if (reached(target)) return;
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
        for (unsigned turn = 1; !reached(target); ++turn) {
            relax();
            if (turn % 64 != 0) continue;
            std::this_thread::yield();  // the one waited for may need this processor
            if (std::chrono::steady_clock::now() > end) return sleep(target);
        }
    }

private:
    bool reached(std::uint32_t target) const {
        return static_cast<std::int32_t>(count_.load() - target) >= 0;
    }

    void sleep(std::uint32_t target) {
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_ = true;
        raised_.wait(lock, [&] { return reached(target); });
        asleep_ = false;
    }

    static void relax() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
        __asm__ volatile("yield");
#endif
    }

    std::atomic<std::uint32_t> count_{0};
    std::atomic<bool> asleep_{false};
    std::mutex mutex_;
    std::condition_variable raised_;
};

template <std::size_t>
using Argument = void*;

template <std::size_t... I>
void call(Microtask task, int* thread, void** arguments, std::index_sequence<I...>) {
    using Exact = void (*)(int*, int*, Argument<I>...);
    reinterpret_cast<Exact>(task)(thread, thread, arguments[I]...);
}

template <std::size_t N>
void call_with(Microtask task, int* thread, void** arguments) {
    call(task, thread, arguments, std::make_index_sequence<N>());
}

template <std::size_t... N>
constexpr auto calls(std::index_sequence<N...>) {
    return std::array<void (*)(Microtask, int*, void**), sizeof...(N)>{call_with<N>...};
}

struct Region {
    Microtask task = nullptr;
    std::size_t count = 0;
    void* arguments[most_arguments] = {};
    int team = 1;

    void run(int thread) {
        static constexpr auto by_count = calls(std::make_index_sequence<most_arguments + 1>());
        const Place before = std::exchange(place, {thread, team, true});
        by_count[count](task, &thread, arguments);
        place = before;
    }
};

// The workers of one calling thread.
class Pool {
public:
    ~Pool() {
        stop_ = true;
        for (auto& worker : workers_) worker->start.raise();
        for (auto& worker : workers_) worker->thread.join();
    }

    // Runs `region` on as many threads as it asks for, the caller being the first, and waits for all.
    void run(Region& region) {
        const int helpers = region.team - 1;
        while (static_cast<int>(workers_.size()) < helpers) {
            workers_.push_back(std::make_unique<Worker>());
            Worker& worker = *workers_.back();
            const int number = static_cast<int>(workers_.size());
            worker.thread = std::thread([this, &worker, number] { serve(worker, number); });
        }
        region_ = &region;
        for (int i = 0; i < helpers; ++i) workers_[static_cast<std::size_t>(i)]->start.raise();
        region.run(0);
        expected_ += static_cast<std::uint32_t>(helpers);
        done_.wait(expected_, block_time);
    }

    std::atomic<int> block_time{20};  // milliseconds of spinning before sleep

private:
    struct alignas(128) Worker {
        Counter start;
        std::thread thread;
    };

    void serve(Worker& worker, int number) {
        for (std::uint32_t round = 1;; ++round) {
            worker.start.wait(round, block_time);
            if (stop_) return;
            region_->run(number);
            done_.raise();
        }
    }

    std::vector<std::unique_ptr<Worker>> workers_;
    Region* region_ = nullptr;
    std::atomic<bool> stop_{false};
    alignas(128) Counter done_;
    std::uint32_t expected_ = 0;
};

thread_local Pool pool;  // its workers end with the thread, or with the program

// The part of this thread in a loop from *lower to *upper, both included, in steps of `step`.
template <typename T, typename Step>
void share(std::int32_t schedule, std::int32_t* last, T* lower, T* upper, Step* stride, Step step) {
    constexpr std::int32_t static_unchunked = 34;  // kmp_sch_static, the only kind that ncnn's loops have
    if (schedule != static_unchunked) {
        std::fprintf(stderr, "openmp.cpp knows static schedules alone, not kind %d\n", schedule);
        std::abort();
    }
    if (step > 0 ? *upper < *lower : *lower < *upper) {
        *last = 0;
        return;
    }
    const T rounds = step > 0 ? (*upper - *lower) / static_cast<T>(step) + 1
                              : (*lower - *upper) / static_cast<T>(-step) + 1;
    const T team = static_cast<T>(place.team), thread = static_cast<T>(place.thread);
    const T each = rounds / team, rest = rounds % team;  // the first `rest` threads take one more
    const T first = thread * each + (thread < rest ? thread : rest), stop = first + each + (thread < rest ? 1 : 0);
    const T start = *lower;
    *lower = start + first * static_cast<T>(step);
    *upper = start + stop * static_cast<T>(step) - static_cast<T>(step);
    *stride = static_cast<Step>(rounds) * step;
    *last = place.thread == place.team - 1;
}

}  // namespace

extern "C" {

int omp_get_max_threads() { return wanted > 0 ? wanted : processors(); }
int omp_get_num_threads() { return place.team; }
int omp_get_thread_num() { return place.thread; }
int omp_get_dynamic() { return 0; }
void omp_set_num_threads(int count) { wanted = count; }
void omp_set_dynamic(int) {}
int kmp_get_blocktime() { return pool.block_time; }
void kmp_set_blocktime(int milliseconds) { pool.block_time = milliseconds; }

std::int32_t __kmpc_global_thread_num(void*) { return place.thread; }
void __kmpc_push_num_threads(void*, std::int32_t, std::int32_t count) { pushed = count; }

void __kmpc_fork_call(void*, std::int32_t count, Microtask task, ...) {
    if (count > static_cast<std::int32_t>(most_arguments)) {
        std::fprintf(stderr, "openmp.cpp passes %zu arguments to a region, not %d\n", most_arguments, count);
        std::abort();
    }
    Region region;
    region.task = task;
    region.count = static_cast<std::size_t>(count);
    std::va_list list;
    va_start(list, task);
    for (std::size_t i = 0; i < region.count; ++i) region.arguments[i] = va_arg(list, void*);
    va_end(list);
    const int asked = std::exchange(pushed, 0);
    region.team = place.inside ? 1 : asked > 0 ? asked : omp_get_max_threads();
    if (region.team == 1) region.run(0);
    else pool.run(region);
}

void __kmpc_for_static_init_4(void*, std::int32_t, std::int32_t schedule, std::int32_t* last,
                              std::int32_t* lower, std::int32_t* upper, std::int32_t* stride,
                              std::int32_t step, std::int32_t) {
    share(schedule, last, lower, upper, stride, step);
}
void __kmpc_for_static_init_4u(void*, std::int32_t, std::int32_t schedule, std::int32_t* last,
                               std::uint32_t* lower, std::uint32_t* upper, std::int32_t* stride,
                               std::int32_t step, std::int32_t) {
    share(schedule, last, lower, upper, stride, step);
}
void __kmpc_for_static_init_8(void*, std::int32_t, std::int32_t schedule, std::int32_t* last,
                              std::int64_t* lower, std::int64_t* upper, std::int64_t* stride,
                              std::int64_t step, std::int64_t) {
    share(schedule, last, lower, upper, stride, step);
}
void __kmpc_for_static_fini(void*, std::int32_t) {}

}  // extern "C"
