// Evaluates a health expression of Flux on an object: CEL, in which the top-level fields of the object are variables.
// Reads {"expression": ..., "object": {...}} and prints true or false.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/cel-go/cel"
)

type question struct {
	Expression string
	Object     map[string]any
}

func main() {
	answer, err := evaluate()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(answer)
}

func evaluate() (any, error) {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return nil, err
	}
	var variables []cel.EnvOption
	for name := range asked.Object {
		variables = append(variables, cel.Variable(name, cel.DynType))
	}
	environment, err := cel.NewEnv(variables...)
	if err != nil {
		return nil, err
	}
	tree, issues := environment.Compile(asked.Expression)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	program, err := environment.Program(tree)
	if err != nil {
		return nil, err
	}
	answer, _, err := program.Eval(asked.Object)
	if err != nil {
		return nil, err
	}
	return answer.Value(), nil
}
