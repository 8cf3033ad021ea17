/// @file
/// What the shared library shows.
#pragma once

#if defined(__GNUC__)
/// Part of the library's interface.
#define POLYVEIL_API __attribute__((visibility("default")))
#else
#define POLYVEIL_API
#endif
