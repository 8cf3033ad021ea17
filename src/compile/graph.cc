#include "compile/graph.h"

#include <algorithm>
#include <cmath>

namespace polyveil::compile {

const char* OpKindName(OpKind kind) {
  switch (kind) {
    case OpKind::kInput:
      return "input";
    case OpKind::kState:
      return "state";
    case OpKind::kAdd:
      return "add";
    case OpKind::kSub:
      return "subtract";
    case OpKind::kMul:
      return "multiply";
    case OpKind::kMulSum:
      return "multiply and sum";
    case OpKind::kSquare:
      return "square";
    case OpKind::kMulPlain:
      return "multiply plain";
    case OpKind::kBand:
      return "band";
    case OpKind::kLinear:
      return "matrix";
    case OpKind::kAddPlain:
      return "add plain";
    case OpKind::kMulByI:
      return "multiply by i";
    case OpKind::kRotate:
      return "rotate";
    case OpKind::kRotateSum:
      return "rotate and sum";
    case OpKind::kConjugate:
      return "conjugate";
    case OpKind::kRescaleUnit:
      return "declare unit";
    case OpKind::kChangeUnit:
      return "change unit";
    case OpKind::kChebyshev:
      return "polynomial";
    case OpKind::kBootstrap:
      return "bootstrap";
  }
  return "unknown";
}

std::int64_t IntegerPart(double factor) {
  if (factor >= 1 && factor < 0x1p53 && factor == std::floor(factor))
    return static_cast<std::int64_t>(factor);
  const double part = 1.02 * factor;
  return part >= 1 && part < 0x1p63 ? static_cast<std::int64_t>(part) : 1;
}

const char* ComponentName(Component component) {
  switch (component) {
    case Component::kInput:
      return "input";
    case Component::kNorm:
      return "norm";
    case Component::kQkv:
      return "QKV";
    case Component::kScores:
      return "scores";
    case Component::kPower:
      return "power";
    case Component::kDivision:
      return "division";
    case Component::kValues:
      return "values";
    case Component::kProjection:
      return "projection";
    case Component::kFeedForward:
      return "feed-forward";
    case Component::kBootstrap:
      return "bootstrap";
    case Component::kOutput:
      return "output";
    case Component::kHead:
      return "head";
    case Component::kChoice:
      return "choice";
    case Component::kEmbedding:
      return "embedding";
  }
  return "unknown";
}

BandSteps::BandSteps(const Node& band) {
  const LinearMap& map = *band.linear;
  const int shared = std::max(band.kept, band.reused);
  whole = shared == 0 ? 0 : 1;
  terms = map.terms;
  groups = (terms + size - 1) / size;
  baby = whole == 0 ? map.other : map.stride;
  each = whole == 0 ? map.stride : map.other;
  between = -size * (each - baby);
  last = (map.first + (groups - 1) * size) * (each - baby);
  group = size * baby;
  all = map.first * baby;
}

int BandSteps::HoistedOf(int count, int k) const {
  int found = 0;
  for (int i = 0; i < count; ++i)
    if (const int j = i % size; j > 0) found += j - Base(j) == k;
  return found;
}

}  // namespace polyveil::compile
