#include "model/element_type.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace polyveil::model {
namespace {

static_assert(std::endian::native == std::endian::little, "the formats are little endian");

constexpr ElementFormat kFormats[] = {
    {"F64", 1, 8, true},    {"F32", 1, 4, true},      {"F16", 1, 2, true},
    {"BF16", 1, 2, true},   {"Q4_0", 32, 18, true},   {"Q4_1", 32, 20, true},
    {"Q8_0", 32, 34, true}, {"Q4_K", 256, 144, true}, {"Q6_K", 256, 210, true},
    {"I64", 1, 8, false},   {"I32", 1, 4, false},     {"I16", 1, 2, false},
    {"I8", 1, 1, false},    {"U8", 1, 1, false},      {"BOOL", 1, 1, false},
};

template <typename T>
T Load(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float LoadHalf(const std::uint8_t* at) { return HalfToFloat(Load<std::uint16_t>(at)); }

float Bfloat16(const std::uint8_t* at) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(Load<std::uint16_t>(at)) << 16);
}

// 16 bytes: the low nibbles are elements 0..15, the high ones 16..31.
template <typename Map>
void DecodeNibbles(const std::uint8_t* nibbles, float* out, Map map) {
  for (int i = 0; i < 16; ++i) {
    out[i] = map(nibbles[i] & 15);
    out[i + 16] = map(nibbles[i] >> 4);
  }
}

void DecodeQ4_0(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  DecodeNibbles(block + 2, out, [d](int q) { return static_cast<float>(q - 8) * d; });
}

void DecodeQ4_1(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block), m = LoadHalf(block + 2);
  DecodeNibbles(block + 4, out, [d, m](int q) { return static_cast<float>(q) * d + m; });
}

void DecodeQ8_0(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  for (int i = 0; i < 32; ++i)
    out[i] = static_cast<float>(static_cast<std::int8_t>(block[2 + i])) * d;
}

struct ScaleMin {
  int scale, min;
};

// Eight pairs of six bits in twelve bytes.
ScaleMin UnpackScaleMin(const std::uint8_t* packed, int j) {
  if (j < 4) return {packed[j] & 63, packed[j + 4] & 63};
  return {(packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4, (packed[j + 4] >> 4) | (packed[j] >> 6)
                                                                                       << 4};
}

// d, dmin (halves), twelve bytes of scales and minima, 128 bytes of nibbles: element
// 64 g + 32 h + i is nibble h of byte 32 g + i.
void DecodeQ4_K(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block), dmin = LoadHalf(block + 2);
  const std::uint8_t* nibbles = block + 16;
  for (int part = 0; part < 8; ++part) {
    const ScaleMin packed = UnpackScaleMin(block + 4, part);
    const float scale = d * static_cast<float>(packed.scale);
    const float min = dmin * static_cast<float>(packed.min);
    for (int i = 0; i < 32; ++i) {
      const int byte = nibbles[part / 2 * 32 + i];
      out[part * 32 + i] = scale * static_cast<float>(part % 2 ? byte >> 4 : byte & 15) - min;
    }
  }
}

// 128 bytes of low nibbles, 64 of high pairs, 16 signed scales, d (half); two halves of 128
// elements, in each element 32 p + i has pair p of high byte i.
void DecodeQ6_K(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block + 208);
  for (int half = 0; half < 2; ++half) {
    const std::uint8_t* low = block + half * 64;
    const std::uint8_t* high = block + 128 + half * 32;
    const std::uint8_t* scales = block + 192 + half * 8;
    for (int part = 0; part < 4; ++part) {
      for (int i = 0; i < 32; ++i) {
        const int byte = low[part % 2 * 32 + i];
        const int nibble = part < 2 ? byte & 15 : byte >> 4;
        const int q = (nibble | (high[i] >> (2 * part) & 3) << 4) - 32;
        const auto scale = static_cast<std::int8_t>(scales[part * 2 + i / 16]);
        out[half * 128 + part * 32 + i] = d * static_cast<float>(scale) * static_cast<float>(q);
      }
    }
  }
}

template <typename Block>
void DecodeBlocks(ElementType type, const std::uint8_t* bytes, std::size_t count, float* out,
                  Block decode) {
  const ElementFormat& format = FormatOf(type);
  for (std::size_t i = 0; i < count; i += format.block_elements) {
    decode(bytes, out + i);
    bytes += format.block_bytes;
  }
}

}  // namespace

const ElementFormat& FormatOf(ElementType type) { return kFormats[static_cast<int>(type)]; }

std::optional<ElementType> ElementTypeFromName(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kFormats); ++i)
    if (kFormats[i].block_elements == 1 && name == kFormats[i].name)
      return static_cast<ElementType>(i);
  return std::nullopt;
}

std::optional<ElementType> ElementTypeFromGguf(std::uint32_t number) {
  switch (number) {
    case 0:
      return ElementType::kF32;
    case 1:
      return ElementType::kF16;
    case 2:
      return ElementType::kQ4_0;
    case 3:
      return ElementType::kQ4_1;
    case 8:
      return ElementType::kQ8_0;
    case 12:
      return ElementType::kQ4_K;
    case 14:
      return ElementType::kQ6_K;
    case 24:
      return ElementType::kI8;
    case 25:
      return ElementType::kI16;
    case 26:
      return ElementType::kI32;
    case 27:
      return ElementType::kI64;
    case 28:
      return ElementType::kF64;
    case 30:
      return ElementType::kBF16;
    default:
      return std::nullopt;
  }
}

void DecodeElements(ElementType type, const std::uint8_t* bytes, std::size_t count, float* out) {
  const ElementFormat& format = FormatOf(type);
  PV_CHECK(format.real && count % format.block_elements == 0, "{}: {} elements in blocks of {}",
           format.name, count, format.block_elements);
  switch (type) {
    case ElementType::kF32:
      std::memcpy(out, bytes, count * sizeof(float));
      return;
    case ElementType::kF16:
      return DecodeBlocks(type, bytes, count, out,
                          [](const std::uint8_t* at, float* to) { *to = LoadHalf(at); });
    case ElementType::kBF16:
      return DecodeBlocks(type, bytes, count, out,
                          [](const std::uint8_t* at, float* to) { *to = Bfloat16(at); });
    case ElementType::kF64:
      return DecodeBlocks(type, bytes, count, out, [](const std::uint8_t* at, float* to) {
        *to = static_cast<float>(Load<double>(at));
      });
    case ElementType::kQ4_0:
      return DecodeBlocks(type, bytes, count, out, DecodeQ4_0);
    case ElementType::kQ4_1:
      return DecodeBlocks(type, bytes, count, out, DecodeQ4_1);
    case ElementType::kQ8_0:
      return DecodeBlocks(type, bytes, count, out, DecodeQ8_0);
    case ElementType::kQ4_K:
      return DecodeBlocks(type, bytes, count, out, DecodeQ4_K);
    case ElementType::kQ6_K:
      return DecodeBlocks(type, bytes, count, out, DecodeQ6_K);
    default:
      PV_CHECK(false, "{} is no real type", format.name);
  }
}

float HalfToFloat(std::uint16_t bits) {
  const std::uint32_t shifted = static_cast<std::uint32_t>(bits & 0x7fff) << 13;
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  // Infinity and NaN keep their exponent; all others, subnormals too, move by 127 - 15.
  const std::uint32_t size =
      (bits & 0x7c00) == 0x7c00
          ? shifted | 0x7f800000u
          : std::bit_cast<std::uint32_t>(std::bit_cast<float>(shifted) * 0x1p112f);
  return std::bit_cast<float>(size | sign);
}

std::uint16_t HalfFromDouble(double x) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::abs(x);
  if (size == 0) return sign;
  if (size >= 65520) return sign | 0x7c00;  // half a step above the largest; infinity too
  int exponent = std::max(std::ilogb(size), -14);
  double mantissa = std::nearbyint(std::ldexp(size, 10 - exponent));
  if (mantissa >= 2048) mantissa /= 2, ++exponent;
  const auto bits = static_cast<std::uint16_t>(mantissa);
  return sign |
         (bits < 1024 ? bits : static_cast<std::uint16_t>(bits - 1024 + ((exponent + 15) << 10)));
}

}  // namespace polyveil::model
