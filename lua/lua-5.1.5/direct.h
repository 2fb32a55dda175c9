/*
** A script's way from the host and back; see direct.c. The host (src/scripting/direct.rs) has the same structs.
*/
#ifndef direct_h
#define direct_h

#include <stddef.h>

#include "lua.h"

typedef struct direct_text {
  const char *bytes;
  size_t length;
} direct_text;

/* Runs a command for `run`; not 0 if there is a reply to be read, which is kept until the next call. */
typedef int (*direct_call) (void *run, const direct_text *words, size_t count, direct_text *reply);

/* One for each Lua, owned by it. */
typedef struct direct_state {
  void *run;         /* the run at work, or NULL */
  direct_call call;
  int runner;        /* what runs a script, in the registry */
  int handler;       /* its error handler */
  int slot;          /* the table whose element 2 takes results that are not simple */
} direct_state;

typedef struct direct_program {
  int function;      /* as `keep` counted */
  int has_globals;   /* keys and arguments are the globals KEYS and ARGV, not arguments */
  const direct_text *words;
  size_t key_count;  /* of the words */
  size_t count;
} direct_program;

enum { DIRECT_NIL, DIRECT_BOOLEAN, DIRECT_NUMBER, DIRECT_TEXT, DIRECT_OTHER, DIRECT_ERROR };

typedef struct direct_result {
  int kind;
  int top;           /* for direct_end */
  lua_Number number; /* or boolean */
  direct_text text;  /* kept until direct_end */
} direct_result;

/* The state of this Lua. */
direct_state *direct_of (lua_State *L);

/* Runs a script. */
void direct_run (lua_State *L, direct_state *state, const direct_program *program, direct_result *result);

/* The result has been read. */
void direct_end (lua_State *L, const direct_result *result);

/* Adds its functions to the table on top of the stack, of which "error_handler" is one. */
void direct_open (lua_State *L);

#endif
