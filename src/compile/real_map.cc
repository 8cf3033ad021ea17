#include "compile/real_map.h"

#include <utility>

namespace polyveil::compile {
namespace {

constexpr int kPackedTerms = 16;  // from here on packing pays

}  // namespace

NodeId LowerRealMap(GraphBuilder& b, const std::string& name, NodeId x, LinearMap map) {
  if (map.terms < kPackedTerms) return b.Linear(name, x, std::move(map), true);
  const int terms = map.terms / 2;
  NodeId shifted = b.MulByI(name + ": i times the other half",
                            b.Rotate(name + ": other half", x, terms * map.stride));
  NodeId packed = b.Add(name + ": packed", x, shifted);
  b.SetReal(packed, false);
  map.terms = terms;
  map.packed = true;
  return b.Linear(name, packed, std::move(map), false);
}

NodeId WholeOfReal(GraphBuilder& b, const std::string& name, NodeId x) {
  if (b.graph()[x].real) return x;
  NodeId sum = b.Add(name, x, b.Conjugate(name + " conjugate", x));
  b.SetReal(sum, true);
  return sum;
}

}  // namespace polyveil::compile
