// Runs a script of Argo CD on an object: the Lua interpreter that Argo CD embeds, with the few libraries that it opens to such
// a script. Reads {"script": ..., "object": ...} and prints the table that the script returns as JSON: the health of the object,
// its actions, or the object that an action has changed.
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
	libraries := map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	}
	for name, open := range libraries {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return "", err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	state.SetContext(limit)
	state.PreloadModule("os", lua.OpenOs) // Argo CD has one of its own, with time and date only
	state.SetGlobal("obj", value(state, asked.Object))
	if err := state.DoString(asked.Script); err != nil {
		return "", err
	}
	returned, isTable := state.Get(-1).(*lua.LTable)
	if !isTable {
		return "", errors.New("the script returned no table")
	}
	encoded, err := json.Marshal(decoded(returned))
	return string(encoded), err
}

// decoded is what a value of Lua becomes in JSON: a table with a first item is a list.
func decoded(known lua.LValue) any {
	switch known := known.(type) {
	case lua.LBool:
		return bool(known)
	case lua.LNumber:
		return float64(known)
	case lua.LString:
		return string(known)
	case *lua.LTable:
		if known.Len() > 0 {
			list := []any{}
			known.ForEach(func(_, item lua.LValue) { list = append(list, decoded(item)) })
			return list
		}
		table := map[string]any{}
		known.ForEach(func(key, item lua.LValue) { table[lua.LVAsString(key)] = decoded(item) })
		return table
	}
	return nil
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
