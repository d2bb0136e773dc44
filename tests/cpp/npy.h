// Reads .npy files (version 1 and 2, little-endian, C order).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <executorch/runtime/core/exec_aten/exec_aten.h>

namespace npy {

using executorch::aten::ScalarType;

struct Array {
  ScalarType type = ScalarType::Float;
  std::vector<std::int32_t> shape;
  std::vector<std::uint8_t> bytes;
};

// ExecuTorch's type of a numpy type string such as "<f4".
inline ScalarType type_of(const std::string& descr) {
  static const struct {
    const char* descr;
    ScalarType type;
  } kTypes[] = {{"<f4", ScalarType::Float}, {"<f2", ScalarType::Half}, {"<f8", ScalarType::Double},
                {"<i8", ScalarType::Long},  {"<i4", ScalarType::Int},  {"|i1", ScalarType::Char},
                {"|u1", ScalarType::Byte},  {"|b1", ScalarType::Bool}};
  for (const auto& row : kTypes) {
    if (descr == row.descr) {
      return row.type;
    }
  }
  throw std::runtime_error("unsupported numpy type " + descr);
}

// The text between `open` and `close` that follows `key` in a header.
inline std::string field(const std::string& header, const std::string& key, char open, char close) {
  const auto start = header.find(open, header.find(key) + key.size());
  const auto end = header.find(close, start + 1);
  if (start == std::string::npos || end == std::string::npos) {
    throw std::runtime_error("broken numpy header: " + header);
  }
  return header.substr(start + 1, end - start - 1);
}

inline Array read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> all{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (all.size() < 12 || std::memcmp(all.data(), "\x93NUMPY", 6) != 0) {
    throw std::runtime_error(path + " is not a .npy file");
  }
  std::uint32_t length = 0;
  const bool version1 = all[6] == 1;
  std::memcpy(&length, all.data() + 8, version1 ? 2 : 4);
  const std::size_t start = version1 ? 10 : 12;
  if (start + length > all.size()) {
    throw std::runtime_error(path + " is truncated");
  }
  const std::string header(all.data() + start, length);
  if (header.find("'fortran_order': False") == std::string::npos) {
    throw std::runtime_error(path + " is in Fortran order");
  }
  Array array;
  array.type = type_of(field(header, "'descr': ", '\'', '\''));
  std::string shape = field(header, "'shape': ", '(', ')');
  std::replace(shape.begin(), shape.end(), ',', ' ');
  std::istringstream dims(shape);
  for (std::int32_t dim; dims >> dim;) {
    array.shape.push_back(dim);
  }
  array.bytes.assign(all.begin() + start + length, all.end());
  return array;
}

// IEEE half to float.
inline float half(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const float mantissa = static_cast<float>(bits & 1023) / 1024.0F;
  const float size = exponent == 31  ? (mantissa == 0 ? INFINITY : NAN)
                     : exponent == 0 ? std::ldexp(mantissa, -14)
                                     : std::ldexp(1 + mantissa, exponent - 15);
  return bits & 0x8000 ? -size : size;
}

template <typename T>
std::vector<double> widen(const void* data, std::size_t count) {
  const T* values = static_cast<const T*>(data);
  return std::vector<double>(values, values + count);
}

// Elements of any of the types above as doubles.
inline std::vector<double> to_double(ScalarType type, const void* data, std::size_t count) {
  switch (type) {
    case ScalarType::Float:
      return widen<float>(data, count);
    case ScalarType::Double:
      return widen<double>(data, count);
    case ScalarType::Long:
      return widen<std::int64_t>(data, count);
    case ScalarType::Int:
      return widen<std::int32_t>(data, count);
    case ScalarType::Char:
      return widen<std::int8_t>(data, count);
    case ScalarType::Byte:
    case ScalarType::Bool:
      return widen<std::uint8_t>(data, count);
    case ScalarType::Half: {
      std::vector<double> values(count);
      for (std::size_t i = 0; i < count; ++i) {
        values[i] = half(static_cast<const std::uint16_t*>(data)[i]);
      }
      return values;
    }
    default:
      throw std::runtime_error("unsupported element type");
  }
}

}  // namespace npy
