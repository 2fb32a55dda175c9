/*
** What nearly every script does, without a detour through the host's general machinery: the arguments
** become tables, `redis.call` hands its words to the host as they lie on the stack, and simple replies and
** results are read where they are. The detour took most of the time of a short script. What is not
** simple goes the general way (`lifted` in sandbox.c): errors, replies of RESP3, results that are tables.
*/
#define LUA_CORE

#include <stdio.h>
#include <string.h>

#include "lua.h"

#include "direct.h"
#include "lauxlib.h"
#include "sandbox.h"

/* Words of a command for which there is room on the stack of C. */
#define WORDS_FEW 16

/* Deepest nesting of a reply; those of commands stay below ten. */
#define DEPTH_MAX 64

static const char STATE[] = "corelane.direct";

direct_state *direct_of (lua_State *L) {
  direct_state *state;
  lua_getfield(L, LUA_REGISTRYINDEX, STATE);
  state = (direct_state *)lua_touserdata(L, -1);
  lua_pop(L, 1);
  return state;
}

/* ---- replies ---- */

typedef struct reader {
  const char *at;
  const char *end;
} reader;

/* The number in a line, whose first byte has been read. */
static int read_number (reader *reply, long long *number) {
  const char *at = reply->at;
  int negative = at < reply->end && *at == '-';
  unsigned long long value = 0;
  const char *digits = (at += negative);
  for (; at < reply->end && *at >= '0' && *at <= '9'; at++) value = value * 10 + (unsigned)(*at - '0');
  if (at == digits || at - digits > 19 || reply->end - at < 2) return 0;
  *number = (long long)(negative ? 0 - value : value);
  reply->at = at + 2;
  return 1;
}

/* Pushes a reply; 0 if it is not simple. Then anything may be on the stack. */
static int push_reply (lua_State *L, reader *reply, int depth) {
  long long number;
  const char *end;
  if (reply->at == reply->end || depth == 0) return 0;
  switch (*reply->at++) {
    case ':':
      if (!read_number(reply, &number)) return 0;
      lua_pushinteger(L, (lua_Integer)number);
      return 1;
    case '$':
      if (!read_number(reply, &number)) return 0;
      if (number < 0) lua_pushboolean(L, 0);
      else {
        if (number > reply->end - reply->at - 2) return 0;
        lua_pushlstring(L, reply->at, (size_t)number);
        reply->at += number + 2;
      }
      return 1;
    case '+':
      end = (const char *)memchr(reply->at, '\r', (size_t)(reply->end - reply->at));
      if (end == NULL || reply->end - end < 2) return 0;
      lua_createtable(L, 0, 1);
      lua_pushlstring(L, reply->at, (size_t)(end - reply->at));
      lua_setfield(L, -2, "ok");
      reply->at = end + 2;
      return 1;
    case '*': {
      long long at;
      if (!read_number(reply, &number)) return 0;
      if (number < 0) {
        lua_pushboolean(L, 0);
        return 1;
      }
      if (number > reply->end - reply->at) return 0;
      luaL_checkstack(L, 3, "a reply is nested too deep");
      lua_createtable(L, (int)number, 0);
      for (at = 1; at <= number; at++) {
        if (!push_reply(L, reply, depth - 1)) return 0;
        lua_rawseti(L, -2, (int)at);
      }
      return 1;
    }
    default:
      return 0;
  }
}

/* ---- redis.call and redis.pcall ---- */

/* The word at this index; 0 if it is neither string nor number. */
static int read_word (lua_State *L, int index, direct_text *word) {
  if (lua_type(L, index) == LUA_TNUMBER) {
    /* As Redis prints it, not as Lua does. The text takes the number's place, and so is kept. */
    char text[40];
    int length = snprintf(text, sizeof(text), "%.17g", lua_tonumber(L, index));
    lua_pushlstring(L, text, (size_t)length);
    lua_replace(L, index);
  }
  else if (lua_type(L, index) != LUA_TSTRING) return 0;
  word->bytes = lua_tolstring(L, index, &word->length);
  return 1;
}

static int are_words (lua_State *L, int count) {
  int at;
  for (at = 1; at <= count; at++) {
    int type = lua_type(L, at);
    if (type != LUA_TSTRING && type != LUA_TNUMBER) return 0;
  }
  return count > 0;
}

/* Upvalues: those of `lifted`, and the state. */
static int called (lua_State *L) {
  direct_state *state = (direct_state *)lua_touserdata(L, lua_upvalueindex(3));
  direct_text few[WORDS_FEW], *words = few, text;
  int count = lua_gettop(L), at;
  if (state->run == NULL || !are_words(L, count)) return lifted(L);
  luaL_checkstack(L, 4, "too many arguments");
  if (count > WORDS_FEW) words = (direct_text *)lua_newuserdata(L, (size_t)count * sizeof(direct_text));
  for (at = 0; at < count; at++) read_word(L, at + 1, &words[at]);
  if (state->call(state->run, words, (size_t)count, &text)) {
    reader reply;
    reply.at = text.bytes;
    reply.end = text.bytes + text.length;
    if (push_reply(L, &reply, DEPTH_MAX)) return 1;
  }
  /* The command has run: only its reply is to be read, or the script is over. */
  lua_settop(L, 0);
  lua_pushlightuserdata(L, state);
  return lifted(L);
}

/* calling(slot, first): a function that runs commands; the arguments are those of `lift`. */
static int calling (lua_State *L) {
  lua_settop(L, 2);
  lua_getfield(L, LUA_REGISTRYINDEX, STATE);
  lua_pushcclosure(L, called, 3);
  return 1;
}

/* ---- runs ---- */

static void push_words (lua_State *L, const direct_text *words, size_t count) {
  size_t at;
  lua_createtable(L, (int)count, 0);
  for (at = 0; at < count; at++) {
    lua_pushlstring(L, words[at].bytes, words[at].length);
    lua_rawseti(L, -2, (int)at + 1);
  }
}

/* runner(program): upvalue 1 is the table of functions. */
static int runner (lua_State *L) {
  const direct_program *program = (const direct_program *)lua_touserdata(L, 1);
  int arguments = 2;
  lua_rawgeti(L, lua_upvalueindex(1), program->function);
  push_words(L, program->words, program->key_count);
  push_words(L, program->words + program->key_count, program->count - program->key_count);
  if (program->has_globals) {
    sandbox_arguments(L);
    arguments = 0;
  }
  lua_call(L, arguments, 1);
  return 1;
}

void direct_run (lua_State *L, direct_state *state, const direct_program *program, direct_result *result) {
  int failed;
  result->top = lua_gettop(L);
  lua_checkstack(L, 5);
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->handler);
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->runner);
  lua_pushlightuserdata(L, (void *)program);
  failed = lua_pcall(L, 1, 1, result->top + 1);
  result->kind = DIRECT_OTHER;
  if (failed) result->kind = DIRECT_ERROR;
  else switch (lua_type(L, -1)) {
    case LUA_TNIL:
      result->kind = DIRECT_NIL;
      return;
    case LUA_TBOOLEAN:
      result->kind = DIRECT_BOOLEAN;
      result->number = lua_toboolean(L, -1);
      return;
    case LUA_TNUMBER:
      result->kind = DIRECT_NUMBER;
      result->number = lua_tonumber(L, -1);
      return;
    case LUA_TSTRING:
      result->kind = DIRECT_TEXT;
      result->text.bytes = lua_tolstring(L, -1, &result->text.length);
      return;
    default:
      break;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->slot);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, 2);
}

void direct_end (lua_State *L, const direct_result *result) {
  lua_settop(L, result->top);
}

/*
** keep(function): the number by which it is run, for as long as somebody else refers to it. Upvalue 1 is the
** table of functions, element 1 of upvalue 2 the number before.
*/
static int keep (lua_State *L) {
  int number;
  lua_settop(L, 1);
  lua_rawgeti(L, lua_upvalueindex(2), 1);
  number = (int)lua_tointeger(L, -1) + 1;
  lua_pushinteger(L, number);
  lua_rawseti(L, lua_upvalueindex(2), 1);
  lua_pop(L, 1);
  lua_rawseti(L, lua_upvalueindex(1), number);
  lua_pushinteger(L, number);
  return 1;
}

/* direct(slot): from now on there are runs; the slot's second element must not be nil. */
static int direct (lua_State *L) {
  direct_state *state = direct_of(L);
  lua_settop(L, 1);
  state->slot = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

void direct_open (lua_State *L) {
  direct_state *state = (direct_state *)lua_newuserdata(L, sizeof(direct_state));
  memset(state, 0, sizeof(direct_state));
  lua_setfield(L, LUA_REGISTRYINDEX, STATE);
  lua_getfield(L, -1, "error_handler");
  state->handler = luaL_ref(L, LUA_REGISTRYINDEX);
  /* Functions by number; a number refers to its function weakly. */
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, runner, 1);
  state->runner = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_newtable(L);
  lua_pushcclosure(L, keep, 2);
  lua_setfield(L, -2, "keep");
  lua_pushcfunction(L, calling);
  lua_setfield(L, -2, "calling");
  lua_pushcfunction(L, direct);
  lua_setfield(L, -2, "direct");
}
