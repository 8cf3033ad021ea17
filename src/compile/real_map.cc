#include "compile/real_map.h"

#include <utility>

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

constexpr int kPackedTerms = 16;  // from here on packing pays

}  // namespace

NodeId LowerRealMap(GraphBuilder& b, const std::string& name, NodeId x, LinearMap map) {
  if (map.terms < kPackedTerms) return b.Linear(name, x, std::move(map), true);
  const int terms = map.terms / 2;
  NodeId shifted = b.MulByI(name + ": i times the other half",
                            b.Rotate(name + ": other half", x, terms * map.stride));
  NodeId packed = b.Add(name + ": packed", x, shifted);
  b.SetReal(packed, false);
  LinearMap half{terms, map.stride, [map, terms](int term) {
                   Vector diagonal = map.diagonal(term);
                   const Vector other = map.diagonal(term + terms);
                   for (size_t s = 0; s < diagonal.size(); ++s)
                     diagonal[s] = 0.5 * (diagonal[s] - Complex(0, 1) * other[s]);
                   return diagonal;
                 }};
  return b.Linear(name, packed, std::move(half), false);
}

NodeId WholeOfReal(GraphBuilder& b, const std::string& name, NodeId x) {
  if (b.graph()[x].real) return x;
  NodeId sum = b.Add(name, x, b.Conjugate(name + " conjugate", x));
  b.SetReal(sum, true);
  return sum;
}

}  // namespace polyveil::compile
