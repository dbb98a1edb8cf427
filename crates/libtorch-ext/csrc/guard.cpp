// Frees what the other units return.
#include "guard.h"

#include <cstdlib>

extern "C" void fewstep_free(char* message) { std::free(message); }
