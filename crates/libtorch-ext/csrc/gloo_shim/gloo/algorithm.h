// LibTorch has Gloo inside and ships none of its headers. ProcessGroupGloo.hpp includes this one and needs nothing of it.
#pragma once
