// Several texts in one ciphertext, decoded together: what a program for fewer slots holds in slot s
// stands at slots s texts .. s texts + texts - 1, a text in each. A rotation goes `texts` times as
// far and is cyclic as it was; what all texts share stands `texts` times.
#pragma once

#include "compile/graph.h"
#include "model/block.h"

namespace polyveil::compile {

// The program of so many texts, a power of two, from that of one on a ring of so many times fewer
// slots.
Graph Interleaved(Graph graph, int texts);

// Every value `texts` times.
std::vector<Complex> Repeated(std::vector<Complex> values, int texts);

// Texts that a ring's slots hold at most: a power of two, 0 where one has no room.
int MostTexts(const model::BlockShape& shape, int log_slots);

}  // namespace polyveil::compile
