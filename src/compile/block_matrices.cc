#include "compile/block_matrices.h"

#include <mutex>

namespace polyveil::compile {
namespace {

using model::Block;
using model::BlockWeights;
using model::Matrix;

// An entry, zero in the padding.
double At(const Matrix& m, int row, int col) {
  return row < m.rows && col < m.cols ? m.at(row, col) : 0;
}

// Queries and keys of one position, made with the first term; without rotary positions those of
// every position.
struct Turned {
  std::shared_ptr<const BlockWeights> weights;
  Matrix wq_turned, wk_turned;

  const Matrix& wq() const { return wq_turned.rows > 0 ? wq_turned : weights->wq; }
  const Matrix& wk() const { return wk_turned.rows > 0 ? wk_turned : weights->wk; }
};

class TurnedOnce {
 public:
  TurnedOnce(const Block& block, int position) : block_(block), position_(position) {}

  std::shared_ptr<const Turned> Get() {
    std::lock_guard lock(mutex_);
    auto held = held_.lock();
    if (held) return held;
    auto turned = std::make_shared<Turned>();
    turned->weights = block_.weights->Get();
    if (!block_.shape.rotary.empty()) {
      turned->wq_turned = turned->weights->wq;
      turned->wk_turned = turned->weights->wk;
      for (Matrix* w : {&turned->wq_turned, &turned->wk_turned})
        model::RotateRows(block_.shape, position_, w->values, w->cols);
    }
    held_ = turned;
    recent_ = turned;
    return turned;
  }
  // The last term's maker lets go of them.
  void Release() {
    std::lock_guard lock(mutex_);
    recent_.reset();
  }

 private:
  const Block block_;
  const int position_;
  std::mutex mutex_;
  std::weak_ptr<const Turned> held_;
  std::shared_ptr<const Turned> recent_;
};

}  // namespace

LinearMap QkvMap(const Block& block, const BlockLayout& l, const BlockUnits& units, int position) {
  auto once = std::make_shared<TurnedOnce>(block, position);
  const model::BlockShape shape = block.shape;
  const RowLayout rows = l.attention;
  const int slot = position % l.keys(), terms = l.width / rows.window;
  return {terms, rows.window, [=](int term) {
            const auto w = once->Get();
            std::vector<Complex> diagonal(l.slots);
            const auto fill = [&](int first, const Matrix& m, bool shared, Complex unit) {
              FillRows(
                  l, rows, rows.window, first, term,
                  [&](int row, int col) -> Complex {
                    const int head = row % l.heads, element = row / l.heads;
                    if (head >= shape.n_heads) return 0;
                    const int source = shared ? shape.KvHead(head) : head;
                    return unit * At(m, source * shape.d_head + element, col);
                  },
                  diagonal);
            };
            fill(slot, w->wk(), true, units.input / units.key);
            fill(slot + l.keys(), w->weights->wv, true, units.input / units.value);
            fill(l.keys() - 1, w->wq(), false, Complex(0, units.input * units.key));
            if (term == terms - 1) once->Release();
            return diagonal;
          }};
}

LinearMap ProjectionMap(const Block& block, const BlockLayout& l, const BlockUnits& units) {
  const model::BlockShape shape = block.shape;
  const double unit = units.value / units.output;
  return RowsToFeatures(l, l.attention, block.weights,
                        [=](const BlockWeights& w, int feature, int row) -> Complex {
                          const int head = row % l.heads, element = row / l.heads;
                          if (head >= shape.n_heads) return 0;
                          return unit * At(w.wo, feature, head * shape.d_head + element);
                        });
}

LinearMap HiddenMap(const Block& block, const BlockLayout& l, const BlockUnits& units) {
  const auto source = block.weights;
  const bool gated = block.shape.gated;
  const double gate_unit = block.shape.bilinear() ? units.hidden : units.gate;
  const RowLayout rows = l.hidden;
  return {l.width / rows.window, rows.window, [=](int term) {
            const auto w = source->Get();
            std::vector<Complex> diagonal(l.slots);
            FillRows(
                l, rows, rows.window, 0, term,
                [&](int row, int col) -> Complex {
                  const double up = units.input * At(w->up, row, col);
                  return gated ? Complex(units.input / gate_unit * At(w->gate, row, col),
                                         up / units.hidden)
                               : Complex(up / units.gate);
                },
                diagonal);
            return diagonal;
          }};
}

LinearMap DownMap(const Block& block, const BlockLayout& l, const BlockUnits& units) {
  const Complex unit = block.shape.bilinear()
                           ? Complex(0, -units.hidden * units.hidden / (4 * units.output))
                           : units.product / units.output;
  return RowsToFeatures(l, l.hidden, block.weights,
                        [=](const BlockWeights& w, int feature, int row) -> Complex {
                          return unit * At(w.down, feature, row);
                        });
}

}  // namespace polyveil::compile
