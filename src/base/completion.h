// Completion of a program's command line by bash, from what the program itself takes.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace polyveil {

// A script for bash: verbs, options, and what an option takes (one of some words, a file, else
// nothing to offer). Complete by construction: it is written from the parser's own tables.
std::string BashCompletion(const CLI::App& app);

}  // namespace polyveil
