// Our log lines in ExecuTorch's logger.

#include <algorithm>
#include <string>

#include <executorch/runtime/platform/log.h>

#include "backend.h"
#include "executorch-wgpu/src/lib.rs.h"
#include "executorch_wgpu_call.h"

namespace etwgpu {
namespace {

using executorch::runtime::Error;
using executorch::runtime::LogLevel;

// ExecuTorch cuts a message at 256 bytes; longer ones are written as several lines.
constexpr std::size_t kLineLength = 240;

LogLevel level_of(std::uint8_t level) {
  return level <= 1 ? LogLevel::Error : level <= 3 ? LogLevel::Info : LogLevel::Debug;
}

// Length of the next line of `text`: at most kLineLength, and never inside a UTF-8 character.
std::size_t line_length(const char* text, std::size_t size) {
  std::size_t length = std::min(size, kLineLength);
  while (length > 1 && length < size && (text[length] & 0xC0) == 0x80) {
    --length;
  }
  return length;
}

}  // namespace

void write_log(std::uint8_t level, rust::Str target, rust::Str message) {
  const std::string source(target);
  std::string line(message);
  std::replace_if(line.begin(), line.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  const auto now = executorch::runtime::internal::get_log_timestamp();
  const char* text = line.data();
  std::size_t left = line.size();
  do {
    const std::size_t length = line_length(text, left);
    executorch::runtime::internal::logf(
        level_of(level), now, source.c_str(), "", 0, "%.*s", static_cast<int>(length), text);
    text += length;
    left -= length;
  } while (left > 0);
}

Error error_of(const Status& status) {
  if (status.code != 0) {
    write_log(1, "executorch_wgpu", status.message);
  }
  return static_cast<Error>(status.code);
}

}  // namespace etwgpu
