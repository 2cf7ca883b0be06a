// Reads a CRD and a minor version of Kubernetes as JSON, and prints the CEL rules that an API server of that version refuses
// in a new CRD, with the error of the compiler. The environments of former versions are part of the API server's own code.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

func main() {
	var asked struct {
		Minor  uint                        `json:"minor"`
		Object v1.CustomResourceDefinition `json:"object"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fail(err)
	}
	var internal apiextensions.JSONSchemaProps
	given := asked.Object.Spec.Versions[0].Schema.OpenAPIV3Schema
	if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(given, &internal, nil); err != nil {
		fail(err)
	}
	structural, err := schema.NewStructural(&internal)
	if err != nil {
		fail(err)
	}
	// As environment.DefaultCompatibilityVersion: new rules may use what the version before knew.
	check(structural, environment.MustBaseEnvSet(version.MajorMinor(1, asked.Minor-1)), true)
}

func check(node *schema.Structural, environments *environment.EnvSet, root bool) {
	if len(node.XValidations) > 0 {
		declared := model.SchemaDeclType(node, root || node.XEmbeddedResource)
		results, err := cel.Compile(node, declared, celconfig.PerCallLimit, environments, cel.NewExpressionsEnvLoader())
		if err != nil {
			fail(err)
		}
		for index, result := range results {
			if result.Error != nil {
				fmt.Printf("%s: %s\n", node.XValidations[index].Rule, result.Error)
			}
		}
	}
	for name := range node.Properties {
		property := node.Properties[name]
		check(&property, environments, false)
	}
	if node.Items != nil {
		check(node.Items, environments, false)
	}
	if node.AdditionalProperties != nil && node.AdditionalProperties.Structural != nil {
		check(node.AdditionalProperties.Structural, environments, false)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
