/* Before windows.c, for parts that ask for more neighbours. */

#define NEAR 50
#define BLOCK 64
