/*
** The library "bit" of scripts: operations on 32-bit integers, as Mike Pall's BitOp has them. In C, as
** it is arithmetic without memory and scripts call it in their innermost loops.
*/
#include <stdint.h>

#include "lua.h"

#include "lauxlib.h"
#include "sandbox.h"

/* A number modulo 2^32, halves to even, as adding 2^52 + 2^51 leaves it in the lower bits of a double. */
static uint32_t argument (lua_State *L, int at) {
  union { double number; uint64_t bits; } shifted;
  shifted.number = luaL_checknumber(L, at) + 6755399441055744.0;
  return (uint32_t)shifted.bits;
}

static int answer (lua_State *L, uint32_t bits) {
  lua_pushnumber(L, (lua_Number)(int32_t)bits);
  return 1;
}

static int tobit (lua_State *L) { return answer(L, argument(L, 1)); }
static int bnot (lua_State *L) { return answer(L, ~argument(L, 1)); }

#define FOLD(name, operator) \
  static int name (lua_State *L) { \
    uint32_t bits = argument(L, 1); \
    int at; \
    for (at = lua_gettop(L); at > 1; at--) bits operator argument(L, at); \
    return answer(L, bits); \
  }
FOLD(band, &=)
FOLD(bor, |=)
FOLD(bxor, ^=)

#define SHIFT(name, result) \
  static int name (lua_State *L) { \
    uint32_t bits = argument(L, 1); \
    uint32_t n = argument(L, 2) & 31; \
    return answer(L, (result)); \
  }
SHIFT(lshift, bits << n)
SHIFT(rshift, bits >> n)
SHIFT(arshift, (bits >> n) | (bits >> 31 && n ? ~(UINT32_MAX >> n) : 0))
SHIFT(rol, (bits << n) | (bits >> ((32 - n) & 31)))
SHIFT(ror, (bits >> n) | (bits << ((32 - n) & 31)))

static int bswap (lua_State *L) {
  uint32_t bits = argument(L, 1);
  return answer(L, bits >> 24 | (bits >> 8 & 0xff00) | (bits & 0xff00) << 8 | bits << 24);
}

static int tohex (lua_State *L) {
  uint32_t bits = argument(L, 1);
  int32_t n = lua_isnone(L, 2) ? 8 : (int32_t)argument(L, 2);
  const char *digits = n < 0 ? "0123456789ABCDEF" : "0123456789abcdef";
  char text[8];
  int at;
  if (n < 0) n = n < -8 ? 8 : -n;
  if (n > 8) n = 8;
  for (at = n; at-- > 0; bits >>= 4) text[at] = digits[bits & 15];
  lua_pushlstring(L, text, (size_t)n);
  return 1;
}

static const luaL_Reg functions[] = {
  {"arshift", arshift}, {"band", band}, {"bnot", bnot}, {"bor", bor}, {"bswap", bswap},
  {"bxor", bxor}, {"lshift", lshift}, {"rol", rol}, {"ror", ror}, {"rshift", rshift},
  {"tobit", tobit}, {"tohex", tohex}, {NULL, NULL}
};

void bits_open (lua_State *L) {
  luaL_register(L, "bit", functions);
  lua_pop(L, 1);
}
