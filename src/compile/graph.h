// A program of homomorphic operations on slot vectors: a typed DAG in topological order.
#pragma once

#include <algorithm>
#include <complex>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "compile/linear_map.h"

namespace polyveil::compile {

enum class OpKind {
  kInput,   // one of the fresh ciphertexts from the client
  kState,   // value kept from the previous step (encrypted key-value cache); zero at the first step
  kAdd,     // a + b
  kSub,     // a - b
  kMul,     // a * b, slot by slot
  kMulSum,  // sum_k rotate(a, k step) * b_k: one relinearisation for all products
  kSquare,  // a * a
  kMulPlain,   // a * constant
  kBand,       // sum_k (diagonal_k * rotate(a, k stride)) * rotate(b, k other): a map's terms
  kLinear,     // sum_k diagonal_k * rotate(a, k stride): a matrix, baby-step giant-step
  kAddPlain,   // a + constant
  kMulByI,     // i * a
  kRotate,     // slot j <- slot j + rotation
  kRotateSum,  // for each r of rotations in turn: a <- a + rotate(a, r)
  kConjugate,
  kRescaleUnit,  // a * factor: by an integer, exactly, and the rest by declaring another scale: no
                 // level, no noise; for kChebyshev's argument, or of an integer alone
  kChangeUnit,   // a * factor at the nominal scale: part of the drop to a lower level, which it
                 // needs
  kChebyshev,    // sum_k coeffs[k] T_k(a), |a| <= 1
  kBootstrap,    // back to the highest working level
};
const char* OpKindName(OpKind kind);

// Where the time goes, as a user of transformers thinks of it.
enum class Component {
  kInput,
  kNorm,
  kQkv,
  kScores,
  kPower,
  kDivision,
  kValues,
  kProjection,
  kFeedForward,
  kBootstrap,
  kOutput,
  kHead,
  kChoice,
  kEmbedding,
};
const char* ComponentName(Component component);
inline constexpr int kComponentCount = 14;

// Values that reports look for.
enum class Mark { kNone, kScores, kHeadOutputs, kAttended, kResult };

using NodeId = int;

struct Node {
  OpKind kind;
  Component component;
  std::vector<NodeId> inputs{};
  std::string name{};               // "layer 2 / attention / scores"
  int layer = -1;                   // -1: outside the layers
  int log_period = 0;               // slots repeat with period 2^log_period
  bool real = true;                 // imaginary parts are zero up to noise
  double magnitude = 0;             // bound on |slot| that calibration gives; 0: not stated
  std::vector<int> rotations{};     // kRotate: one; kRotateSum: in order
  int step = 0;                     // kMulSum
  std::vector<Complex> constant{};  // kMulPlain, kAddPlain: 2^k values, repeated over the slots
  std::vector<double> coeffs{};     // kChebyshev
  // kLinear; kMulPlain whose values are made when they are needed: a map of one term.
  std::shared_ptr<const LinearMap> linear{};
  // kBand: an operand whose rotations the next band reads too, and one that the band before
  // rotated; kLinear: 0 where the next node has the same map, whose plaintexts serve both, and
  // where the one before had. -1: none.
  int kept = -1, reused = -1;
  double factor = 1;     // kRescaleUnit
  int state = -1;        // kState: slot of the state table; kInput: which of the inputs
  bool cut = false;      // the planner may bootstrap this value: magnitude <= 1
  NodeId cut_with = -1;  // as this one is; itself
  Mark mark = Mark::kNone;
  int least_level = 0;                               // of a value that another program reads
  int most_level = std::numeric_limits<int>::max();  // of one that another program leaves
  // Filled by the level pass.
  int level = -1;
};

// What kRescaleUnit multiplies by; it declares the rest. At least 1; above factor by 2% at most; 1
// for a factor that no integer holds.
std::int64_t IntegerPart(double factor);

// How a band's terms are summed, with few rotations: term i = g size + j, both operands' rotations
// less by (first + g size) stride of the baby operand, around which the sum of those j is rotated:
//   sum_i d_i R^((first+i) u) x R^((first+i) v) y =
//   R^(first u) sum_g R^(g size u) sum_j (R^(-(first + g size) u) d_i) R^(j u) x R^(..) y.
// x is rotated `size` times, y once a term: that of two bands that share it. From one value as many
// as `ahead` are hoisted, the last of which is the next such value.
struct BandSteps {
  explicit BandSteps(const Node& band);

  int terms, size = 12, groups, ahead = 6;
  size_t whole;       // the operand that is rotated once a term
  int baby, each;     // rotations from j to j + 1: of x, of y
  int between, last;  // of y from g + 1 to g, and of the first j of the last g
  int group, all;     // of sums from g + 1 to g, and of the whole
  int Shift(int g) const { return all + g * group; }         // of the diagonals of g, back
  int Base(int j) const { return (j - 1) / ahead * ahead; }  // that j > 0 is hoisted from
  // Rotations by k steps, k = 1 .. ahead: of y in all groups, of x.
  int Hoisted(int k) const { return HoistedOf(terms, k); }
  int HoistedBabies(int k) const { return HoistedOf(std::min(size, terms), k); }

 private:
  int HoistedOf(int count, int k) const;
};

struct StateUpdate {
  int state;    // slot of the state table
  NodeId node;  // its value after the step
};

struct Graph {
  std::vector<Node> nodes;  // inputs precede their users
  std::vector<StateUpdate> updates;
  std::vector<NodeId> outputs;

  const Node& operator[](NodeId id) const { return nodes[id]; }
};

}  // namespace polyveil::compile
