#include "compile/known_caches.h"

#include <algorithm>

#include "compile/block_context.h"

namespace polyveil::compile {
namespace {

// Keys first .. last - 1 of a chunk that begins with the first of them.
std::vector<Complex> ChunkOf(const model::Block& block, const BlockLayout& l,
                             const model::PublicContext::KeyValues& known, int first, int last) {
  const model::BlockShape& shape = block.shape;
  const BlockUnits units = MakeBlockUnits(block.forms, {}, {});
  std::vector<Complex> slots;
  for (int k = first; k < last; ++k) {
    const auto add = [&](int slot, const std::vector<double>& values, double unit) {
      const size_t row = static_cast<size_t>(k) * shape.kv_width();
      FillAttentionSlot(
          l, shape.n_heads, slot,
          [&](int e, int h) { return values[row + shape.KvHead(h) * shape.d_head + e] / unit; },
          slots);
    };
    add(k - first, known.keys, units.key);
    add(k - first + l.keys(), known.values, units.value);
  }
  return slots;
}

}  // namespace

std::vector<std::vector<Complex>> KnownCaches(const model::Block& block, const BlockLayout& layout,
                                              const model::PublicContext::KeyValues& known) {
  const auto width = static_cast<size_t>(block.shape.kv_width());
  const int all = static_cast<int>(known.keys.size() / width);
  const int elsewhere = layout.InMatrices(all - block.prefix()), keys = all - elsewhere;
  model::PublicContext::KeyValues here = known;
  for (auto* values : {&here.keys, &here.values}) {
    const auto first = values->begin() + std::ssize(block.prefix_keys);
    values->erase(first, first + static_cast<std::ptrdiff_t>(width) * elsewhere);
  }
  std::vector<std::vector<Complex>> chunks;
  for (int chunk = 0; chunk < layout.chunks; ++chunk) {
    const int first = chunk * layout.keys();
    chunks.push_back(ChunkOf(block, layout, here, first, std::min(keys, first + layout.keys())));
  }
  return chunks;
}

}  // namespace polyveil::compile
