// A language model in ExecuTorch's export convention: forward(tokens [1, S], position [1]) -> logits, caches inside.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

using executorch::extension::Module;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::Result;

// Runs `tokens` at `position`.
inline Result<std::vector<EValue>> forward(Module& module, std::vector<std::int64_t>& tokens, std::int64_t position) {
  using executorch::aten::ScalarType;
  auto ids = executorch::extension::from_blob(
      tokens.data(), {1, static_cast<executorch::aten::SizesType>(tokens.size())}, ScalarType::Long);
  auto at = executorch::extension::from_blob(&position, {1}, ScalarType::Long);
  return module.forward({EValue(ids), EValue(at)});
}

// The logits of the last token.
struct Logits {
  const float* data = nullptr;
  std::size_t size = 0;
};

inline Logits last_logits(const std::vector<EValue>& outputs) {
  const auto& tensor = outputs.at(0).toTensor();
  const std::size_t vocabulary = static_cast<std::size_t>(tensor.size(tensor.dim() - 1));
  return {tensor.const_data_ptr<float>() + (tensor.numel() - static_cast<ssize_t>(vocabulary)), vocabulary};
}

// Position of the largest logit. The search for its value runs in sixteen lanes, which compilers turn into vectors.
inline std::int64_t argmax(Logits logits) {
  constexpr std::size_t kLanes = 16;
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, logits.data[0]);
  std::size_t i = 0;
  for (; i + kLanes <= logits.size; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float value = logits.data[i + lane];
      lanes[lane] = value > lanes[lane] ? value : lanes[lane];
    }
  }
  float largest = *std::max_element(lanes, lanes + kLanes);
  for (; i < logits.size; ++i) {
    largest = std::max(largest, logits.data[i]);
  }
  return std::find(logits.data, logits.data + logits.size, largest) - logits.data;
}

// Largest number of tokens that one forward takes.
inline std::int64_t length_bound(Module& module) {
  const auto meta = module.method_meta("forward");
  if (!meta.ok()) {
    return 0;
  }
  const auto tokens = meta->input_tensor_meta(0);
  return tokens.ok() && tokens->sizes().size() == 2 ? tokens->sizes()[1] : 0;
}

// The integer that a constant method returns, `otherwise` when there is no such method.
inline std::int64_t constant(Module& module, const std::string& method, std::int64_t otherwise) {
  const auto names = module.method_names();
  if (!names.ok() || names->count(method) == 0) {
    return otherwise;
  }
  const auto value = module.get(method);
  return value.ok() && value->isInt() ? value->toInt() : otherwise;
}
