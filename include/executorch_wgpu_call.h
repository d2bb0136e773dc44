// What the Rust side sees of one delegate call and of a program's named data.
// Free of ExecuTorch types, so that the Rust library builds without its headers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rust/cxx.h"

namespace etwgpu {

// Kind of an argument of `execute`.
enum class ArgKind : std::uint8_t;
struct ArgView;

// What an observer of a call wants to be told.
struct Watch;

// The argument list of one `execute`: delegate inputs, then delegate outputs.
class Call {
 public:
  virtual ~Call() = default;
  // Number of arguments.
  virtual std::size_t size() const = 0;
  // Argument `index`; its kind is `Other` when it is neither a tensor nor an integer.
  virtual ArgView arg(std::size_t index) const = 0;
  // Gives tensor `index` these sizes; false when the runtime refuses.
  virtual bool resize(std::size_t index, rust::Slice<const std::int32_t> sizes) = 0;
  // Stores an integer into argument `index`.
  virtual void set_int(std::size_t index, std::int64_t value) = 0;
  // What the observer of this call wants to be told.
  virtual Watch watch() const = 0;
  // A span of this call, in nanoseconds since it began; `metadata` is JSON or empty.
  virtual void span(rust::Str name, std::uint64_t start, std::uint64_t end, rust::Str metadata) = 0;
  // A contiguous tensor that operator `node` of the program computed.
  virtual void value(std::uint32_t node, std::int8_t scalar_type, rust::Slice<const std::int32_t> sizes,
                     rust::Slice<const std::uint8_t> data) = 0;
};

// Named constants of a program, inside the file or beside it.
class NamedData {
 public:
  virtual ~NamedData() = default;
  // Bytes under `key`, valid until `release`; empty when there are none.
  virtual rust::Slice<const std::uint8_t> acquire(rust::Str key) = 0;
  // Gives back the bytes acquired last.
  virtual void release() = 0;
};

// Writes one line to ExecuTorch's logger; `level` is 1 = error … 5 = trace.
void write_log(std::uint8_t level, rust::Str target, rust::Str message);

}  // namespace etwgpu
