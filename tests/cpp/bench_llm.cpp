// Measures a language model through executorch::extension::Module: load, prefill, decode, CPU time and memory.
//
//   bench_llm MODEL.pte [--prefill 128,512,2047] [--context 128,512,2048] [--decode 64] [--repeats 5]
//             [--soak STEPS] [--json FILE]
//
// Prefill is measured at position 0; prompts longer than the program takes at once are fed in chunks. Decode is greedy
// and measured over the last --decode tokens before each context length: the time in `forward`, logits included, without
// that of choosing the next token from them. --soak runs that many more single-token steps and reports after each quarter
// of them how many bytes and blocks of heap the process holds more than before.
#include <sys/stat.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <executorch_wgpu.h>

#include "heap_growth.h"
#include "language_model.h"

namespace {

using Clock = std::chrono::steady_clock;
using Tokens = std::vector<std::int64_t>;

struct Options {
  std::string model;
  std::string json;
  std::vector<std::int64_t> prefill{128, 512, 2047};
  std::vector<std::int64_t> context{128, 512, 2048};
  std::int64_t decode = 64;
  std::int64_t repeats = 5;
  std::int64_t soak = 0;
};

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "bench_llm: %s\n", message.c_str());
  std::exit(1);
}

std::vector<std::int64_t> numbers(const std::string& text) {
  std::vector<std::int64_t> all;
  std::istringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) {
    all.push_back(std::atoll(item.c_str()));
  }
  return all;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg.rfind("--", 0) != 0) {
      options.model = arg;
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (arg == "--prefill") options.prefill = numbers(value);
    else if (arg == "--context") options.context = numbers(value);
    else if (arg == "--decode") options.decode = std::atoll(value.c_str());
    else if (arg == "--repeats") options.repeats = std::atoll(value.c_str());
    else if (arg == "--soak") options.soak = std::atoll(value.c_str());
    else if (arg == "--json") options.json = value;
    else fail("unknown option " + arg);
  }
  if (options.model.empty()) {
    fail("usage: bench_llm MODEL.pte [--prefill N,..] [--context N,..] [--decode N] [--repeats N] [--soak N] [--json FILE]");
  }
  return options;
}

// A figure of /proc/self/status in MiB.
double status_mib(const char* key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) == 0) {
      return std::atof(line.c_str() + std::strlen(key) + 1) / 1024.0;
    }
  }
  return 0;
}

// Memory of our own, as opposed to pages of mapped files.
double own_mib() { return status_mib("RssAnon") + status_mib("RssShmem"); }

// Follows the peak of own memory from another thread while it lives; the kernel keeps no such peak.
class PeakWatch {
 public:
  PeakWatch() : thread_([this] { watch(); }) {}
  double stop() {
    done_ = true;
    thread_.join();
    return std::max(peak_, own_mib());
  }

 private:
  void watch() {
    while (!done_) {
      peak_ = std::max(peak_, own_mib());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  std::atomic<bool> done_{false};
  double peak_ = 0;
  std::thread thread_;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// CPU time of the calling thread. The delegate waits awake for short runs; `spun_ns` says how much of it that took.
double thread_cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

etwgpu_totals totals() {
  etwgpu_totals all{};
  etwgpu_read_totals(&all);
  return all;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

struct Step {
  std::int64_t token = 0;  // most likely next token
  std::size_t vocabulary = 0;
};

Step run(Module& module, Tokens& tokens, std::int64_t position) {
  const auto outputs = forward(module, tokens, position);
  if (!outputs.ok()) {
    fail("forward of " + std::to_string(tokens.size()) + " tokens at position " + std::to_string(position) + ": " +
         to_string(outputs.error()));
  }
  const Logits logits = last_logits(outputs.get());
  return {argmax(logits), logits.size};
}

// Feeds `count` made-up tokens from position 0 on, in chunks of at most `bound`.
Step feed(Module& module, std::int64_t count, std::int64_t bound, std::size_t vocabulary) {
  Step last;
  for (std::int64_t at = 0; at < count; at += bound) {
    Tokens chunk(static_cast<std::size_t>(std::min(bound, count - at)));
    for (std::size_t i = 0; i < chunk.size(); ++i) {
      chunk[i] = static_cast<std::int64_t>((static_cast<std::size_t>(at) + i) * 7919 % vocabulary);
    }
    last = run(module, chunk, at);
  }
  return last;
}

struct Decode {
  std::int64_t context = 0;
  double tokens_per_second = 0;
  double median_us = 0;
  double cpu_us = 0;
  double busy_us = 0;  // of cpu_us, what is left without waiting for the device awake
  double dispatches = 0;
  double submits = 0;
};

// Decodes greedily up to `context` tokens.
Decode decode(Module& module, std::int64_t context, std::int64_t count, std::int64_t bound, std::size_t vocabulary) {
  const std::int64_t start = context - count;
  Tokens token{feed(module, start, bound, vocabulary).token};
  std::vector<double> walls;
  double cpu = 0;
  const etwgpu_totals before = totals();
  for (std::int64_t position = start; position < context; ++position) {
    const auto step_begin = Clock::now();
    const double cpu_begin = thread_cpu_seconds();
    const auto outputs = forward(module, token, position);
    cpu += thread_cpu_seconds() - cpu_begin;
    walls.push_back(seconds_since(step_begin));
    if (!outputs.ok()) {
      fail("decode at position " + std::to_string(position) + ": " + to_string(outputs.error()));
    }
    token[0] = argmax(last_logits(outputs.get()));
  }
  const double seconds = std::accumulate(walls.begin(), walls.end(), 0.0);
  const etwgpu_totals after = totals();
  const auto n = static_cast<double>(count);
  const auto per_token = [n](std::uint64_t a, std::uint64_t b) { return static_cast<double>(a - b) / n; };
  return {context,
          n / seconds,
          median(walls) * 1e6,
          cpu / n * 1e6,
          cpu / n * 1e6 - per_token(after.spun_ns, before.spun_ns) * 1e-3,
          per_token(after.dispatches, before.dispatches),
          per_token(after.submits, before.submits)};
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  std::ostringstream json;
  struct stat file {};
  if (stat(options.model.c_str(), &file) != 0) {
    fail("cannot read " + options.model);
  }

  const double own_before = own_mib();
  PeakWatch watch;
  const auto load_begin = Clock::now();
  Module module(options.model, Module::LoadMode::Mmap);
  if (const Error error = module.load_forward(); error != Error::Ok) {
    fail(options.model + ": " + to_string(error));
  }
  const double load = seconds_since(load_begin);
  const double own_peak = watch.stop() - own_before;
  const double own_after = own_mib() - own_before;
  const double peak = status_mib("VmHWM");
  Tokens first{1};
  const auto first_begin = Clock::now();
  const std::size_t vocabulary = run(module, first, 0).vocabulary;
  const double first_token = seconds_since(first_begin);
  const std::int64_t bound = length_bound(module);
  const std::int64_t limit = constant(module, "get_max_context_len", constant(module, "get_max_seq_len", bound));

  std::printf("model            %s (%.1f MiB), at most %lld tokens at once, context %lld\n", options.model.c_str(),
              static_cast<double>(file.st_size) / 1048576.0, static_cast<long long>(bound), static_cast<long long>(limit));
  std::printf("load             %.3f s, first token %.3f s\n", load, first_token);
  std::printf("memory at load   peak %.1f MiB resident, of it %.1f MiB our own at most, %.1f MiB after loading\n", peak,
              own_peak, own_after);
  json << "{\"model\":\"" << options.model << "\",\"bytes\":" << file.st_size << ",\"load_s\":" << load
       << ",\"first_token_s\":" << first_token << ",\"peak_rss_mib\":" << peak << ",\"load_own_peak_mib\":" << own_peak
       << ",\"load_own_mib\":" << own_after;

  json << ",\"prefill\":[";
  const char* comma = "";
  for (const std::int64_t count : options.prefill) {
    if (count > limit) {
      std::printf("prefill %6lld   skipped: longer than the context\n", static_cast<long long>(count));
      continue;
    }
    std::vector<double> times;
    for (std::int64_t i = 0; i <= options.repeats; ++i) {
      const auto begin = Clock::now();
      feed(module, count, bound, vocabulary);
      if (i > 0) {  // the first one prepares for the new length
        times.push_back(seconds_since(begin));
      }
    }
    const double rate = static_cast<double>(count) / median(times);
    std::printf("prefill %6lld   %10.1f tokens/s   (%.2f ms)\n", static_cast<long long>(count), rate, median(times) * 1e3);
    json << comma << "{\"tokens\":" << count << ",\"tokens_per_s\":" << rate << "}";
    comma = ",";
  }

  json << "],\"decode\":[";
  comma = "";
  for (const std::int64_t wanted : options.context) {
    const std::int64_t context = std::min(wanted, limit);
    if (context <= options.decode) {
      std::printf("decode  %6lld   skipped: shorter than the %lld tokens to decode\n", static_cast<long long>(wanted),
                  static_cast<long long>(options.decode));
      continue;
    }
    const Decode d = decode(module, context, options.decode, bound, vocabulary);
    std::printf("decode  %6lld   %10.1f tokens/s   (median %.0f us, calling thread %.0f us of CPU without waiting, %.0f us with it; "
                "%.1f launches, %.1f submits a token)\n",
                static_cast<long long>(d.context), d.tokens_per_second, d.median_us, d.busy_us, d.cpu_us, d.dispatches,
                d.submits);
    json << comma << "{\"context\":" << d.context << ",\"tokens_per_s\":" << d.tokens_per_second
         << ",\"median_us\":" << d.median_us << ",\"busy_us\":" << d.busy_us << ",\"cpu_us\":" << d.cpu_us
         << ",\"dispatches\":" << d.dispatches << ",\"submits\":" << d.submits << "}";
    comma = ",";
  }
  json << "]";

  if (options.soak > 0) {
    Tokens token{1};
    std::int64_t position = 0;
    const auto steps = [&](std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) {
        token[0] = run(module, token, position).token;
        position = (position + 1) % limit;
      }
    };
    steps(std::min<std::int64_t>(200, options.soak));
    const double own = own_mib();
    begin_heap_growth();
    HeapGrowth growth;
    constexpr std::int64_t kParts = 4;  // growth that goes on shows in each of them
    for (std::int64_t part = 1; part <= kParts; ++part) {
      const std::int64_t done = options.soak * (part - 1) / kParts;
      const std::int64_t end = options.soak * part / kParts;
      steps(end - done);
      growth = heap_growth();
      std::printf("soak             %lld steps: heap %+lld bytes in %+lld blocks, own memory %+.2f MiB\n",
                  static_cast<long long>(end), static_cast<long long>(growth.bytes),
                  static_cast<long long>(growth.blocks), own_mib() - own);
    }
    json << ",\"soak_steps\":" << options.soak << ",\"heap_growth_bytes\":" << growth.bytes
         << ",\"heap_growth_blocks\":" << growth.blocks << ",\"own_growth_mib\":" << own_mib() - own;
  }
  std::printf("memory at end    peak %.1f MiB resident, %.1f MiB our own now\n", status_mib("VmHWM"), own_mib());
  json << ",\"end_peak_rss_mib\":" << status_mib("VmHWM") << ",\"end_own_mib\":" << own_mib() << "}";
  if (options.json.empty()) {
    std::printf("%s\n", json.str().c_str());
  } else {
    std::ofstream(options.json) << json.str() << "\n";
  }
  return 0;
}
