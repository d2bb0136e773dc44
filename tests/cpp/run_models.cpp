// Runs exported models through executorch::extension::Module against their goldens, all in one process.
//
//   run_models MODELS_DIR [NAME-GLOB ...]
//
// MODELS_DIR/NAME/model.pte with stepN_in_I.npy and stepN_out_J.npy. The steps of a model run in order on one loaded
// method, so that in-graph state is carried over; every module stays loaded until the end. A step passes when each
// output has the golden's shape and either every element is within atol or rtol, or the relative Frobenius error is
// within frob. Exit status 0 when all pass.
#include <fnmatch.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include "npy.h"

namespace fs = std::filesystem;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;

namespace {

struct Tolerance {
  const char* glob;
  double atol, rtol, frob;
};
constexpr Tolerance kTolerances[] = {
    // This golden lacks the fp16 rounding of the weights, which activations quantised to 8 bits turn into whole steps.
    {"*8da4w*fp16*", 0, 0, 2.5e-2},
    {"*fp16*", 2e-3, 1e-2, 5e-3}, {"*int8*", 0, 0, 2e-2}, {"*8da4w*", 1e-3, 1e-3, 5e-3}, {"*", 1e-4, 1e-3, 0}};

// How far an output is from its golden.
struct Distance {
  double worst = 0;      // largest absolute error
  double frobenius = 0;  // relative
  std::size_t off = 0;   // elements beyond both tolerances
  bool finite = true;
};

struct Outcome {
  std::string wrong;  // what went wrong first; empty when the model passes
  std::string figures;
};

Distance distance(const std::vector<double>& got, const std::vector<double>& want, const Tolerance& tolerance) {
  Distance d;
  double error2 = 0;
  double want2 = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(got[i] - want[i]);
    d.finite = d.finite && std::isfinite(got[i]);
    d.off += !(error <= tolerance.atol || error <= tolerance.rtol * std::abs(want[i]));
    d.worst = std::isnan(error) ? INFINITY : std::max(d.worst, error);
    error2 += error * error;
    want2 += want[i] * want[i];
  }
  d.frobenius = std::sqrt(error2) / std::max(std::sqrt(want2), 1e-30);
  return d;
}

// stepN_KIND_0.npy, stepN_KIND_1.npy … of a folder.
std::vector<npy::Array> arrays(const fs::path& folder, int step, const char* kind) {
  std::vector<npy::Array> all;
  for (int i = 0;; ++i) {
    const auto path = folder / ("step" + std::to_string(step) + "_" + kind + "_" + std::to_string(i) + ".npy");
    if (!fs::exists(path)) {
      return all;
    }
    all.push_back(npy::read(path));
  }
}

// The distance of the closest output of the golden's shape; some programs return their caches too, in any order.
bool closest(const std::vector<EValue>& outputs, const npy::Array& want, const Tolerance& tolerance, Distance* best) {
  bool found = false;
  std::size_t count = 1;
  for (const int dim : want.shape) {
    count *= static_cast<std::size_t>(dim);
  }
  const auto golden = npy::to_double(want.type, want.bytes.data(), count);
  for (const EValue& value : outputs) {
    if (!value.isTensor()) {
      continue;
    }
    const auto& tensor = value.toTensor();
    if (!std::equal(tensor.sizes().begin(), tensor.sizes().end(), want.shape.begin(), want.shape.end())) {
      continue;
    }
    const auto got = npy::to_double(tensor.scalar_type(), tensor.const_data_ptr(), count);
    const Distance d = distance(got, golden, tolerance);
    if (!found || d.worst < best->worst) {
      *best = d;
    }
    found = true;
  }
  return found;
}

std::string text(const Distance& d) {
  char buffer[96];
  std::snprintf(buffer, sizeof buffer, ", max abs %.3g, frobenius %.3g", d.worst, d.frobenius);
  return buffer;
}

// Runs every recorded step of the model in `folder`.
Outcome run(Module& module, const fs::path& folder, const Tolerance& tolerance) {
  const auto start = std::chrono::steady_clock::now();
  if (const Error error = module.load_forward(); error != Error::Ok) {
    return {std::string("load: ") + to_string(error), ""};
  }
  const std::chrono::duration<double> load = std::chrono::steady_clock::now() - start;
  Distance total;
  int step = 0;
  for (;; ++step) {
    auto inputs = arrays(folder, step, "in");
    if (inputs.empty()) {
      break;
    }
    std::vector<TensorPtr> tensors;
    std::vector<EValue> values;
    for (npy::Array& input : inputs) {
      tensors.push_back(executorch::extension::from_blob(input.bytes.data(), input.shape, input.type));
      values.emplace_back(tensors.back());
    }
    const auto outputs = module.forward(values);
    const std::string where = "step " + std::to_string(step);
    if (!outputs.ok()) {
      return {where + ": " + to_string(outputs.error()), ""};
    }
    for (const npy::Array& want : arrays(folder, step, "out")) {
      Distance d;
      if (!closest(outputs.get(), want, tolerance, &d)) {
        return {where + ": no output has the golden's shape", ""};
      }
      total.worst = std::max(total.worst, d.worst);
      total.frobenius = std::max(total.frobenius, d.frobenius);
      if (!d.finite || (d.off > 0 && !(d.frobenius <= tolerance.frob))) {
        return {where + ": " + std::to_string(d.off) + " elements off" + text(d), ""};
      }
    }
  }
  char load_text[32];
  std::snprintf(load_text, sizeof load_text, ", load %.2f s", load.count());
  return {step == 0 ? "no steps" : "", std::to_string(step) + " steps" + load_text + text(total)};
}

bool selected(const std::string& name, int count, char** globs) {
  bool any = count == 0;
  for (int i = 0; i < count; ++i) {
    any = any || fnmatch(globs[i], name.c_str(), 0) == 0;
  }
  return any;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: run_models MODELS_DIR [NAME-GLOB ...]\n");
    return 2;
  }
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(argv[1])) {
    if (fs::exists(entry.path() / "model.pte") && selected(entry.path().filename(), argc - 2, argv + 2)) {
      folders.push_back(entry.path());
    }
  }
  std::sort(folders.begin(), folders.end());
  std::vector<std::unique_ptr<Module>> modules;
  int passed = 0;
  for (const fs::path& folder : folders) {
    const std::string name = folder.filename();
    const Tolerance* tolerance = kTolerances;
    while (fnmatch(tolerance->glob, name.c_str(), 0) != 0) {
      ++tolerance;
    }
    modules.push_back(std::make_unique<Module>((folder / "model.pte").string(), Module::LoadMode::Mmap));
    Outcome outcome;
    try {
      outcome = run(*modules.back(), folder, *tolerance);
    } catch (const std::exception& error) {
      outcome.wrong = error.what();
    }
    const bool ok = outcome.wrong.empty();
    passed += ok;
    std::printf("%s %s: %s\n", ok ? "pass" : "FAIL", name.c_str(), (ok ? outcome.figures : outcome.wrong).c_str());
    std::fflush(stdout);
  }
  const int failed = static_cast<int>(folders.size()) - passed;
  std::printf("%d passed, %d failed\n", passed, failed);
  return passed > 0 && failed == 0 ? 0 : 1;
}
