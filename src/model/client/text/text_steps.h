// Shapes that normalisers and pre-tokenizers share; internal to this folder.
#pragma once

#include "model/client/text/text_pipeline.h"
#include "model/client/text/unicode.h"

namespace polyveil::model {

// Replaces every piece by the parts that cut(text, emit) names.
template <typename Cut>
PreTokenizer SplitWith(Cut cut) {
  return [cut](std::vector<Piece>& pieces) {
    std::vector<Piece> out;
    for (Piece& piece : pieces) {
      bool first = piece.first;
      cut(std::string_view(piece.text), [&](std::string_view part) {
        if (!part.empty()) out.push_back({std::string(part), first});
        first = false;
      });
    }
    pieces = std::move(out);
  };
}

// The text without the characters for which test holds.
template <typename Test>
std::string Without(std::string_view text, Test test) {
  std::string out;
  ForEachCharacter(text, [&](char32_t c, std::string_view bytes) {
    if (!test(c)) out += bytes;
  });
  return out;
}

}  // namespace polyveil::model
