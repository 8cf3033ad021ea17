// Names beside a path under which a file is written before it takes its place. A writer holds a
// lock on its part: what a killed one has left is known by that and removed by the next.
#pragma once

#include <sys/types.h>

#include <string>

namespace polyveil {

// A new name: `path`, ".part-" and twelve random hexadecimal digits.
std::string PartName(const std::string& path);
// Takes the lock of a part that has no name yet, or none that anyone else may remove.
void HoldPart(int fd);
// Makes a part with a name of its own and holds it; -1 with errno set.
int OpenPart(const std::string& path, mode_t mode, std::string& name);
// Removes parts of this path that nobody holds. Best effort.
void RemoveLeftParts(const std::string& path);

}  // namespace polyveil
