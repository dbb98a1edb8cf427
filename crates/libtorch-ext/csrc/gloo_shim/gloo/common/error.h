// See algorithm.h: included by LibTorch's header, which needs nothing of it.
#pragma once
