#include "compile/texts.h"

#include <algorithm>
#include <bit>

#include "compile/layout.h"

namespace polyveil::compile {

std::vector<Complex> Repeated(std::vector<Complex> values, int texts) {
  if (texts == 1) return values;
  std::vector<Complex> repeated;
  repeated.reserve(values.size() * static_cast<size_t>(texts));
  for (const Complex& value : values)
    repeated.insert(repeated.end(), static_cast<size_t>(texts), value);
  return repeated;
}

Graph Interleaved(Graph graph, int texts) {
  if (texts == 1) return graph;
  for (Node& node : graph.nodes) {
    node.log_period += Log2(texts);
    for (int& rotation : node.rotations) rotation *= texts;
    node.step *= texts;
    // One value is the same in every slot already.
    if (node.constant.size() > 1) node.constant = Repeated(std::move(node.constant), texts);
    if (!node.linear) continue;
    auto map = std::make_shared<LinearMap>(*node.linear);
    map->texts = texts;
    node.linear = std::move(map);
  }
  return graph;
}

int MostTexts(const model::BlockShape& shape, int log_slots) {
  const auto padded = [](int value) { return std::bit_ceil(static_cast<unsigned>(value)); };
  const unsigned heads = padded(shape.n_heads) * padded(shape.d_head);
  const unsigned needed = std::max({padded(shape.d_model), 2 * heads, padded(shape.d_ff)});
  return static_cast<int>((1U << log_slots) / needed);
}

}  // namespace polyveil::compile
