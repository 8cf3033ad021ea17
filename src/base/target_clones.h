// Versions of a function for wider vectors; the program's start picks the machine's.
#pragma once

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PV_NO_TARGET_CLONES
#endif
#endif

// ThreadSanitizer's runtime does not stand yet when the functions that pick a version run.
#if defined(__SANITIZE_THREAD__) || defined(PV_NO_TARGET_CLONES)
#define PV_TARGET_CLONES
#else
#define PV_TARGET_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
