// In-context tasks: token sequences whose predictable positions follow from the context alone, so
// that a model can solve them only by attention. Made from symbols of the vocabulary, by a seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace polyveil::train {

enum class Task {
  kCopy,      // x_1 .. x_n | x_1 .. x_n
  kRecall,    // a walk with jumps along successors drawn for the sequence: what followed follows
              // again
  kNgram,     // a chain over few symbols, drawn anew for each sequence: two successors each, 9 : 1
  kKeyValue,  // k : v ; k : v ; ... ; k : v with keys that return with their values
};
inline constexpr Task kTasks[] = {Task::kCopy, Task::kRecall, Task::kNgram, Task::kKeyValue};
const char* TaskName(Task task);

struct TaskSequence {
  std::vector<std::int32_t> tokens;  // `length` of them
  std::vector<bool> predictable;     // by position: the token at it follows from those before it
};

// Symbols are first_symbol .. first_symbol + symbols - 1, signs are the bytes '|', ':' and ';'.
struct TaskAlphabet {
  int first_symbol = 300;
  int symbols = 64;
};

// Requires length >= 16 and alphabet.symbols >= 32. The same seed gives the same sequence
// everywhere.
TaskSequence MakeTask(Task task, int length, const TaskAlphabet& alphabet, std::uint64_t seed);

// The accuracy of a model that knows the rule and guesses where chance decides: 1, or 0.9 for
// kNgram.
double BestAccuracy(Task task);

}  // namespace polyveil::train
