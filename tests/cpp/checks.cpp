// Checks of the delegate's behaviour through the stock runtime, one per process: checks NAME MODEL.pte
// The model is a language model as in language_model.h. Ends with status 0 when the check holds.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <executorch/extension/data_loader/buffer_data_loader.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch_wgpu.h>

#include "heap_growth.h"
#include "language_model.h"

namespace {

int failures = 0;

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      std::printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);   \
      ++failures;                                                             \
    }                                                                         \
  } while (0)

using Tokens = std::vector<std::int64_t>;
using Row = std::vector<float>;

std::unique_ptr<Module> open(const std::string& model) {
  return std::make_unique<Module>(model, Module::LoadMode::Mmap);
}

// Logits of the last token; empty when the call fails.
Row logits(Module& module, Tokens tokens, std::int64_t position) {
  const auto outputs = forward(module, tokens, position);
  if (!outputs.ok()) {
    return {};
  }
  const Logits last = last_logits(outputs.get());
  return Row(last.data, last.data + last.size);
}

// A short prompt and two single tokens, as a conversation.
std::vector<Row> conversation(Module& module) {
  return {logits(module, {3, 4, 5, 6, 7}, 0), logits(module, {8}, 5), logits(module, {9}, 6)};
}

bool complete(const std::vector<Row>& rows) {
  return std::all_of(rows.begin(), rows.end(), [](const Row& row) { return !row.empty(); });
}

// Both names belong to this library, once.
void registration(const std::string&) {
  using executorch::runtime::get_backend_class;
  CHECK(get_backend_class("VulkanBackend") != nullptr);
  CHECK(get_backend_class("VulkanBackend") == get_backend_class("WgpuBackend"));
  CHECK(etwgpu_owns("VulkanBackend") == 1 && etwgpu_owns("WgpuBackend") == 1);
  CHECK(etwgpu_owns("XnnpackBackend") == 0);
  const auto before = executorch::runtime::get_num_registered_backends();
  CHECK(etwgpu_register() == 2);
  CHECK(executorch::runtime::get_num_registered_backends() == before);
}

void adapter_info(const std::string&) {
  CHECK(etwgpu_is_available() == 1);
  const std::string info = etwgpu_adapter_info();
  CHECK(info.size() > 2 && info.front() == '{' && info.back() == '}');
  std::printf("%s\n", info.c_str());
}

// Run with ETWGPU_ADAPTER naming nothing.
void no_adapter(const std::string& model) {
  CHECK(etwgpu_is_available() == 0);
  CHECK(!executorch::runtime::get_backend_class("VulkanBackend")->is_available());
  CHECK(open(model)->load_forward() == Error::NotFound);
}

void options(const std::string&) {
  executorch::runtime::BackendOptions<1> unknown;
  CHECK(unknown.set_option("no_such_option", 1) == Error::Ok);
  CHECK(executorch::runtime::set_option("WgpuBackend", unknown.view()) != Error::Ok);
  CHECK(executorch::runtime::get_option("WgpuBackend", unknown.view()) != Error::Ok);
  CHECK(etwgpu_set_option("caf\xc3\xa9", "1") != 0);
  CHECK(etwgpu_set_option("", "\xff\xfe") != 0);
  CHECK(etwgpu_get_option("no_such_option") == nullptr);
  CHECK(etwgpu_set_option(std::string(100, 'k').c_str(), "1") != 0);
}

// Modules do not share state: three take turns, one is dropped half-way.
void several_modules(const std::string& model) {
  const auto want = conversation(*open(model));
  CHECK(complete(want));
  auto a = open(model);
  auto b = open(model);
  auto c = open(model);
  CHECK(logits(*a, {3, 4, 5, 6, 7}, 0) == want[0]);
  CHECK(logits(*b, {9, 9, 9}, 0) != want[0]);
  CHECK(logits(*c, {3, 4, 5, 6, 7}, 0) == want[0]);
  CHECK(logits(*a, {8}, 5) == want[1]);
  b.reset();
  CHECK(logits(*c, {8}, 5) == want[1]);
  CHECK(logits(*c, {9}, 6) == want[2]);
  CHECK(logits(*a, {9}, 6) == want[2]);
  for (int i = 0; i < 5; ++i) {
    CHECK(conversation(*open(model)) == want);
  }
}

// A failed call leaves the caches as they were.
void after_failure(const std::string& model) {
  auto module = open(model);
  const auto want = conversation(*module);
  CHECK(complete(want));
  const std::int64_t bound = length_bound(*module);
  const std::int64_t context = constant(*module, "get_max_context_len", bound);
  CHECK(logits(*module, {3, 4, 5, 6, 7}, 0) == want[0]);
  CHECK(logits(*module, {1 << 20}, 5).empty());
  CHECK(logits(*module, {-1}, 5).empty());
  CHECK(logits(*module, {8}, 5) == want[1]);
  CHECK(logits(*module, {9}, context).empty());
  CHECK(logits(*module, {9}, std::int64_t{1} << 40).empty());
  CHECK(logits(*module, {9}, -1).empty());
  CHECK(logits(*module, {9, 9, 9}, context - 2).empty());
  CHECK(logits(*module, Tokens(static_cast<std::size_t>(bound) + 1, 9), 0).empty());
  CHECK(logits(*module, {9}, 6) == want[2]);
}

// Inputs of a wrong kind are refused, by the runtime or by the delegate.
void bad_inputs(const std::string& model) {
  using executorch::aten::ScalarType;
  auto module = open(model);
  CHECK(module->load_forward() == Error::Ok);
  std::vector<std::int64_t> zeros(64, 0);
  std::vector<executorch::extension::TensorPtr> alive;  // an EValue does not own its tensor
  const auto tensor = [&](std::vector<executorch::aten::SizesType> sizes, ScalarType type) {
    alive.push_back(executorch::extension::from_blob(zeros.data(), std::move(sizes), type));
    return EValue(alive.back());
  };
  const EValue tokens = tensor({1, 2}, ScalarType::Long);
  const EValue position = tensor({1}, ScalarType::Long);
  CHECK(!module->forward({tensor({1, 2}, ScalarType::Float), position}).ok());
  CHECK(!module->forward({tensor({1, 2}, ScalarType::Int), position}).ok());
  CHECK(!module->forward({tensor({2}, ScalarType::Long), position}).ok());
  CHECK(!module->forward({tensor({2, 2}, ScalarType::Long), position}).ok());
  CHECK(!module->forward({tensor({1, 0}, ScalarType::Long), position}).ok());
  CHECK(!module->forward({tokens, tensor({2}, ScalarType::Long)}).ok());
  CHECK(!module->forward({EValue(std::int64_t{1}), position}).ok());
  CHECK(module->forward({tokens, position}).ok());
}

// Single tokens leave nothing on the heap: neither the delegate, nor the runtime, nor the driver.
void heap(const std::string& model) {
  auto module = open(model);
  // NVIDIA's driver grows a few blocks once in the first hundreds of steps.
  constexpr int kWarmUp = 1000;
  constexpr int kSteps = 2000;
  Tokens token{3};
  int good = 0;
  const auto steps = [&](int count) {
    for (int i = 0; i < count; ++i) {
      good += forward(*module, token, i % 16).ok();
    }
  };
  steps(kWarmUp);
  begin_heap_growth();
  steps(kSteps);
  const HeapGrowth growth = heap_growth();
  std::printf("%d steps: %+lld bytes in %+lld blocks\n", kSteps, static_cast<long long>(growth.bytes),
              static_cast<long long>(growth.blocks));
  CHECK(good == kWarmUp + kSteps);
  // Other threads' work under way comes and goes.
  CHECK(growth.blocks < kSteps / 50);
  CHECK(growth.bytes < 8 * kSteps);
}

// One module per thread.
void threads(const std::string& model) {
  const auto want = conversation(*open(model));
  CHECK(complete(want));
  std::vector<std::thread> all;
  std::vector<int> good(4, 0);
  for (int& count : good) {
    all.emplace_back([&want, &count, &model] {
      for (int i = 0; i < 3; ++i) {
        count += conversation(*open(model)) == want;
      }
    });
  }
  for (std::thread& thread : all) {
    thread.join();
  }
  for (const int count : good) {
    CHECK(count == 3);
  }
}

using Bytes = std::vector<char>;

Bytes read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// Loads a program from memory, and runs it when it loads.
Error load(const Bytes& program) {
  Module module(std::make_unique<executorch::extension::BufferDataLoader>(program.data(), program.size()));
  const Error error = module.load_forward();
  if (error == Error::Ok) {
    (void)conversation(module);
  }
  return error;
}

template <typename T>
void put(Bytes& program, std::size_t at, T value) {
  std::memcpy(program.data() + at, &value, sizeof value);
}

template <typename T>
T get(const Bytes& program, std::size_t at) {
  T value;
  std::memcpy(&value, program.data() + at, sizeof value);
  return value;
}

std::size_t find(const Bytes& program, const std::string& text) {
  const auto at = std::search(program.begin(), program.end(), text.begin(), text.end());
  return static_cast<std::size_t>(at - program.begin());
}

// A damaged delegate blob is refused with the right error, and never ends the process.
void corrupt(const std::string& model) {
  const Bytes good = read(model);
  const std::size_t blob = find(good, "VH00") - 4;  // the magic stands at byte 4 of the header
  CHECK(blob < good.size());
  const std::size_t graph = blob + get<std::uint32_t>(good, blob + 10);
  const std::size_t graph_size = get<std::uint32_t>(good, blob + 14);
  CHECK(load(good) == Error::Ok);

  const auto damaged = [&good](const std::function<void(Bytes&)>& damage) {
    Bytes program = good;
    damage(program);
    return load(program);
  };
  CHECK(damaged([&](Bytes& p) { p[blob + 7] = '1'; }) == Error::NotFound);
  CHECK(damaged([&](Bytes& p) { std::fill_n(&p[blob], graph_size, '\0'); }) == Error::NotFound);
  CHECK(damaged([&](Bytes& p) { put<std::uint16_t>(p, blob + 8, 0); }) == Error::InvalidArgument);
  CHECK(damaged([&](Bytes& p) { put<std::uint32_t>(p, blob + 10, 0xfffffff0); }) == Error::InvalidArgument);
  CHECK(damaged([&](Bytes& p) { put<std::uint32_t>(p, blob + 14, 0); }) == Error::InvalidArgument);
  CHECK(damaged([&](Bytes& p) { put<std::uint32_t>(p, blob + 14, 0xfffffff0); }) == Error::InvalidArgument);
  CHECK(damaged([&](Bytes& p) { put<std::uint32_t>(p, blob + 18, 0xfffffff0); }) == Error::InvalidArgument);
  CHECK(damaged([&](Bytes& p) { put<std::uint64_t>(p, blob + 22, ~0ULL); }) == Error::InvalidArgument);
  CHECK(damaged([&](Bytes& p) { p[graph + 4] = 'X'; }) == Error::DelegateInvalidCompatibility);
  CHECK(damaged([&](Bytes& p) { put<std::uint32_t>(p, graph, 0x7fffffff); }) == Error::DelegateInvalidCompatibility);
  const auto unknown_operator = damaged([&](Bytes& p) { p[find(p, "et_vk.rms_norm.default") + 7] = 'z'; });
  CHECK(unknown_operator == Error::NotSupported || unknown_operator == Error::DelegateInvalidCompatibility);
  CHECK(damaged([&](Bytes& p) { p.resize(p.size() / 2); }) != Error::Ok);

  // One wrong byte somewhere in the graph: any outcome but the end of this process.
  std::mt19937 random(7);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::map<std::string, int> outcomes;
  for (int round = 0; round < 1000 && std::chrono::steady_clock::now() < until; ++round) {
    const Error error = damaged([&](Bytes& p) { p[graph + random() % graph_size] = static_cast<char>(random()); });
    ++outcomes[to_string(error)];
  }
  for (const auto& [name, count] : outcomes) {
    std::printf("random damage: %d x %s\n", count, name.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, void (*)(const std::string&)> all = {
      {"registration", registration}, {"adapter_info", adapter_info}, {"no_adapter", no_adapter},
      {"options", options},           {"several_modules", several_modules},
      {"after_failure", after_failure}, {"bad_inputs", bad_inputs},   {"threads", threads},
      {"corrupt", corrupt},           {"heap", heap}};
  const auto check = argc == 3 ? all.find(argv[1]) : all.end();
  if (check == all.end()) {
    std::fprintf(stderr, "usage: checks NAME MODEL.pte\n");
    return 2;
  }
  check->second(argv[2]);
  return failures == 0 ? 0 : 1;
}
