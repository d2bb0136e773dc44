// ExecuTorch's options as the text that the Rust side takes, and back.
#pragma once

#include <optional>
#include <string>

#include <executorch/runtime/backend/options.h>

#include "rust/cxx.h"

namespace etwgpu {

// The bytes as text when they are plain ASCII, as all our keys and values are; rust::Str aborts on broken UTF-8.
std::optional<rust::Str> ascii(const char* text, std::size_t size);

std::optional<rust::Str> key_of(const executorch::runtime::BackendOption& option);

// The value of an option as text.
std::string text_of(const executorch::runtime::OptionValue& value);

// Stores text into an option, in the type that the caller left there.
void store_text(executorch::runtime::OptionValue& value, const std::string& text);

}  // namespace etwgpu
