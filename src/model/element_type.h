// How tensors' elements stand in files: plain floats and the quantised blocks of GGUF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace polyveil::model {

enum class ElementType {
  kF64,
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ8_K,
  kIq4Nl,
  kIq4Xs,
  kI64,  // integers: counted and sized, never read as weights
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
};

// Elements come in blocks: block_elements of them in block_bytes. Plain types have blocks of one.
struct ElementFormat {
  const char* name;  // as safetensors and ggml write it
  std::size_t block_elements;
  std::size_t block_bytes;
  bool real;  // DecodeElements reads it
};
const ElementFormat& FormatOf(ElementType type);

// The type that safetensors names so; none of the quantised ones.
std::optional<ElementType> ElementTypeFromName(std::string_view name);
// The type of ggml's number in a GGUF file.
std::optional<ElementType> ElementTypeFromGguf(std::uint32_t number);
// ggml's name for it, also of types that are not read; "number 99" where there is none.
std::string NameOfGgufType(std::uint32_t number);

// Widens count elements to float32 (F64 is rounded). Requires a real type and count a multiple of
// block_elements; bytes may be unaligned.
void DecodeElements(ElementType type, const std::uint8_t* bytes, std::size_t count, float* out);

float HalfToFloat(std::uint16_t bits);   // IEEE binary16, exact
std::uint16_t HalfFromDouble(double x);  // to nearest even; overflow gives infinity

}  // namespace polyveil::model
