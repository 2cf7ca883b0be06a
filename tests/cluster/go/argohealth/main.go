// Runs a health assessment of Argo CD on an object: the Lua interpreter that Argo CD embeds, with the few libraries that it
// opens to such a script. Reads {"script": ..., "object": ...} and prints the status, and the message behind a tab.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
)

type question struct {
	Script string
	Object any
}

func main() {
	answer, err := assess()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(answer)
}

func assess() (string, error) {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return "", err
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return "", err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	state.SetContext(limit)
	state.SetGlobal("obj", value(state, asked.Object))
	if err := state.DoString(asked.Script); err != nil {
		return "", err
	}
	health, isTable := state.Get(-1).(*lua.LTable)
	if !isTable {
		return "", errors.New("the script returned no table")
	}
	return lua.LVAsString(health.RawGetString("status")) + "\t" + lua.LVAsString(health.RawGetString("message")), nil
}

// value is what JSON becomes in Lua: null is absent.
func value(state *lua.LState, decoded any) lua.LValue {
	switch known := decoded.(type) {
	case bool:
		return lua.LBool(known)
	case float64:
		return lua.LNumber(known)
	case string:
		return lua.LString(known)
	case []any:
		list := state.NewTable()
		for _, item := range known {
			list.Append(value(state, item))
		}
		return list
	case map[string]any:
		table := state.NewTable()
		for key, item := range known {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
