#include "options.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace etwgpu {
namespace {

using executorch::runtime::BackendOption;
using executorch::runtime::kMaxOptionKeyLength;
using executorch::runtime::kMaxOptionValueLength;
using executorch::runtime::OptionValue;
using OptionText = std::array<char, kMaxOptionValueLength>;

}  // namespace

std::optional<rust::Str> ascii(const char* text, std::size_t size) {
  const bool plain = std::all_of(text, text + size, [](char c) { return c >= 0x20 && c < 0x7f; });
  return plain ? std::optional<rust::Str>(rust::Str(text, size)) : std::nullopt;
}

std::optional<rust::Str> key_of(const BackendOption& option) {
  return ascii(option.key, strnlen(option.key, kMaxOptionKeyLength));
}

std::string text_of(const OptionValue& value) {
  if (const bool* flag = std::get_if<bool>(&value)) {
    return *flag ? "true" : "false";
  }
  if (const int* number = std::get_if<int>(&value)) {
    return std::to_string(*number);
  }
  const OptionText* text = std::get_if<OptionText>(&value);
  return text == nullptr ? "" : std::string(text->data(), strnlen(text->data(), text->size()));
}

void store_text(OptionValue& value, const std::string& text) {
  if (bool* flag = std::get_if<bool>(&value)) {
    *flag = text == "true" || text == "1";
  } else if (int* number = std::get_if<int>(&value)) {
    *number = static_cast<int>(std::strtol(text.c_str(), nullptr, 10));
  } else if (OptionText* out = std::get_if<OptionText>(&value)) {
    out->fill('\0');
    std::copy_n(text.begin(), std::min(text.size(), out->size() - 1), out->begin());
  }
}

}  // namespace etwgpu
